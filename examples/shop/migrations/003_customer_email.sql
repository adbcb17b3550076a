ALTER TABLE orders ADD COLUMN email TEXT;
UPDATE orders SET email = 'customer' || id || '@example.com';
