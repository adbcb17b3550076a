CREATE TABLE products (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL,
    cents INTEGER NOT NULL
);
INSERT INTO products (name, cents) VALUES ('teapot', 2900), ('cup', 700), ('tray', 1500);
