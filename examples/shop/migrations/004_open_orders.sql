CREATE INDEX open_orders ON orders (state) WHERE state = 'open';
