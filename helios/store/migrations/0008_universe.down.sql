DROP TABLE universe;
