"""Black-Litterman: equilibrium returns moved by views as far as their confidence says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import SolverError

NO_CONFIDENCE = 1e-15
"""At or below it a view is left out: it would move nothing that a float can show, and its uncertainty is beyond every float."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is expected after the views; everything in the time unit of the covariance.

    Attributes
    ----------
    pi : ndarray of shape (n_assets,)
        Equilibrium returns, delta Sigma w_prior.
    mu : ndarray of shape (n_assets,)
        Posterior expected returns.
    sigma_plus : ndarray of shape (n_assets, n_assets)
        Covariance of returns, Sigma + M, with M the uncertainty of mu itself.
    weights_prior : ndarray of shape (n_assets,)
    """

    pi: FloatArray
    mu: FloatArray
    sigma_plus: FloatArray
    weights_prior: FloatArray


def posterior(
    sigma: FloatArray,
    w_prior: FloatArray,
    P: FloatArray,
    Q: FloatArray,
    confidences: FloatArray,
    delta: float,
    tau: float,
) -> Posterior:
    """Blend equilibrium and views.

    With Omega_kk = P_k tau Sigma P_k' (1 - c_k) / c_k (Idzorek's confidence in closed form) and
    K = tau Sigma P' (P tau Sigma P' + Omega)^-1: mu = pi + K (Q - P pi), M = tau Sigma - K P tau Sigma. The Kalman form stays
    exact at c = 1 (Omega = 0, the view is reproduced); views with c = 0 (to 1e-15) are left out (the prior is reproduced).

    Parameters
    ----------
    sigma : ndarray of shape (n_assets, n_assets)
    w_prior : ndarray of shape (n_assets,)
    P : ndarray of shape (n_views, n_assets)
    Q : ndarray of shape (n_views,)
        Expected returns of the view portfolios, in the time unit of `sigma`.
    confidences : ndarray of shape (n_views,)
        Within [0, 1].
    delta, tau : float
        Risk aversion of the market; scale of the uncertainty of equilibrium.

    Raises
    ------
    SolverError
        If an input is not finite, a confidence lies outside [0, 1], or `delta` or `tau` is not above 0.

    Notes
    -----
    A view on what has no variance moves nothing: its equilibrium is certain. Of certain views that contradict each other
    the least-squares compromise results; `views.view_matrix` refuses them before.

    References
    ----------
    .. [1] Walters, "The Black-Litterman Model in Detail", 2014, formulas 41, 44 and the alternative (Kalman) form.
    """
    if not all(np.isfinite(a).all() for a in (sigma, w_prior, P, Q, confidences)):
        raise SolverError("an input of the posterior is not finite")
    if ((confidences < 0) | (confidences > 1)).any():
        raise SolverError("a view confidence lies outside 0..1")
    if not (0 < delta < np.inf and 0 < tau < np.inf):
        raise SolverError("risk aversion and tau must be above 0")
    pi: FloatArray = delta * sigma @ w_prior
    used = confidences > NO_CONFIDENCE
    gain, P_used = _gain(tau * sigma, P[used], confidences[used]), P[used]
    mu: FloatArray = pi + gain @ (Q[used] - P_used @ pi)
    M = tau * sigma - gain @ (P_used @ (tau * sigma))
    return Posterior(pi, mu, sigma + (M + M.T) / 2, w_prior)


def _gain(prior_covariance: FloatArray, P: FloatArray, confidences: FloatArray) -> FloatArray:
    variance = np.maximum(((P @ prior_covariance) * P).sum(axis=1), 0.0)
    omega = np.diag(variance * (1 - confidences) / confidences)
    # Scaled to a unit diagonal, so that what counts as singular does not depend on how much each view portfolio moves. The
    # pseudo-inverse: repeated certain views make the matrix singular without making the answer ambiguous.
    scale = np.zeros_like(variance)
    np.divide(1.0, np.sqrt(variance / confidences), out=scale, where=variance > 0)
    scaled = scale[:, None] * P
    inner = scaled @ prior_covariance @ scaled.T + omega * np.outer(scale, scale)
    gain: FloatArray = prior_covariance @ scaled.T @ np.linalg.pinv(inner, rcond=1e-12, hermitian=True) * scale
    return gain
