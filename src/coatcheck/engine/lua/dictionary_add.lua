-- Keep a dictionary, and list it: it is in use unless another was put to use later. One that is there stays as it is.
-- KEYS: 1 list of the dictionaries  2 dictionary
-- ARGV: 1 its id  2 the dictionary, sealed  3 since when it is in use (ms)  4 how long to keep it at least (ms)
-- REPLY: 1

redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[4])
redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[1])
for _, key in ipairs({KEYS[1], KEYS[2]}) do
  if redis.call('PTTL', key) < tonumber(ARGV[4]) then redis.call('PEXPIRE', key, ARGV[4]) end
end
return 1
