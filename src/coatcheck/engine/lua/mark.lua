-- Write something, for what waits for the last write of this connection.
-- KEYS: 1 mark
-- ARGV: 1 how long it lives (ms)
-- REPLY: 1
-- A full memory refuses a script's SET unless something else was written before it; ends must get through.

redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 1
