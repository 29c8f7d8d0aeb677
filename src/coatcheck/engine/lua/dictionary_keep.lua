-- Lengthen the life of a dictionary, for the sake of records that are to be compressed with it.
-- KEYS: 1 list of the dictionaries  2 dictionary
-- ARGV: 1 how long to keep it at least (ms)
-- REPLY: 1 it is kept  0 it is not there

for _, key in ipairs({KEYS[2], KEYS[1]}) do
  local left = redis.call('PTTL', key)
  if left < 0 then return 0 end
  if left < tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
end
return 1
