-- Settle the entries of one partition's expiry index that are due: drop the sessions that have ended from both
-- indexes, put off the others to their new deadline.
-- KEYS: 1 expiry index
-- ARGV: 1 now  2 stem of the records  3 stem of the subjects' indexes  4 at most this many
-- REPLY: {entries looked at, ended handle, ...}
-- USES: index

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[4])
local reply = {#due}
for _, entry in ipairs(due) do
  local handle, digest = string.sub(entry, 1, 16), string.sub(entry, 17)
  local ttl = redis.call('PTTL', ARGV[2] .. handle)
  if ttl > 0 then
    redis.call('ZADD', KEYS[1], tonumber(ARGV[1]) + ttl, entry)
  else
    leave(ARGV[3] .. digest, KEYS[1], handle, digest)
    reply[#reply + 1] = handle
  end
end
return reply
