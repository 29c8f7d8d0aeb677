-- Settle the entries of one partition's expiry index that are due: say once of each session that has ended that it
-- expired, and drop it from both indexes; put off the others to their new deadline.
-- KEYS: 1 expiry index  2 epoch  3 events
-- ARGV: 1 now  2 stem of the records  3 stem of the subjects' indexes  4 at most this many
--       5 declared compartments
-- REPLY: {entries looked at, ended handle, ...}
-- USES: record events index companions

local x, now = KEYS[1], tonumber(ARGV[1])
local due = redis.call('ZRANGEBYSCORE', x, '-inf', now, 'LIMIT', 0, ARGV[4])
local reply, epoch = {#due}, redis.call('GET', KEYS[2])
for _, entry in ipairs(due) do
  local handle, digest = string.sub(entry, 1, 16), string.sub(entry, 17)
  local record, u = redis.call('GET', ARGV[2] .. handle), ARGV[3] .. digest
  local ttl = redis.call('PTTL', ARGV[2] .. handle)
  if ttl > 0 and alive(record, epoch) then
    redis.call('ZADD', x, now + ttl, entry)
  else
    erase(ARGV[2], handle, ARGV[5])
    settle(u, x, KEYS[3], handle, digest, record, ARGV[1])
    reply[#reply + 1] = handle
  end
end
return reply
