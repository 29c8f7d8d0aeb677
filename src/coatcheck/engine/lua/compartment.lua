-- Make, replace, extend or remove a compartment of a session, only while the session's record is there.
-- KEYS: 1 record of the session  2 epoch  3 compartment
-- ARGV: 1 expected revision (4 bytes), '' if there must be none, '*' to extend it, whatever it is
--       2 compartment, or '' to remove it  3 ttl (ms)
-- REPLY: {1} done (or done by an earlier try)  {0} the session has ended
--        {2, compartment or ''} it has another revision, or is gone
-- USES: record

if not alive(redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])) then return {0} end
if ARGV[1] == '*' then
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
  return {1}
end
local current = redis.call('GET', KEYS[3]) or ''
if current == ARGV[2] then return {1} end
if string.sub(current, 5, 8) ~= ARGV[1] then return {2, current} end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[3])
else
  redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
end
return {1}
