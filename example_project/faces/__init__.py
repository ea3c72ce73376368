"""The same two routes, placing an order and asking how it is doing, in five styles. Take the one that is yours."""
