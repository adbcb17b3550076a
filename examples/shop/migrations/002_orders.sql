CREATE TABLE orders (
    id      INTEGER PRIMARY KEY,
    product INTEGER NOT NULL REFERENCES products (id),
    state   TEXT NOT NULL DEFAULT 'open'
);
-- Enough to keep the worker busy for a while.
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
INSERT INTO orders (product) SELECT 1 + i % 3 FROM n;
