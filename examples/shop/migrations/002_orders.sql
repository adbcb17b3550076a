CREATE TABLE orders (
    id      INTEGER PRIMARY KEY,
    product INTEGER NOT NULL REFERENCES products (id),
    state   TEXT NOT NULL DEFAULT 'open'
);
INSERT INTO orders (product) VALUES (1), (2), (2), (3);
