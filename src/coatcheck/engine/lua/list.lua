-- Read the sessions of a subject, a page at a time, in no order.
-- KEYS: 1 subject's index  2 epoch
-- ARGV: 1 stem  2 cursor: '0' at first  3 how many to look at, about
-- REPLY: {cursor of the next page, or '0' after the last, handle, record, remaining ttl (ms), ...} without those that
--         have ended
-- USES: record
-- Ranks shift when a session ends, scores when its deadline changes; ZSCAN finds whatever is listed throughout, on one
-- server. It may give an entry twice.

local reply, epoch, looked_at = {ARGV[2]}, redis.call('GET', KEYS[2]), 0
repeat
  local found = redis.call('ZSCAN', KEYS[1], reply[1], 'COUNT', ARGV[3])
  reply[1] = found[1]
  for i = 1, #found[2], 2 do
    local handle = found[2][i]
    local record = redis.call('GET', ARGV[1] .. handle)
    looked_at = looked_at + 1
    if alive(record, epoch) then
      reply[#reply + 1] = handle
      reply[#reply + 1] = record
      reply[#reply + 1] = redis.call('PTTL', ARGV[1] .. handle)
    end
  end
until reply[1] == '0' or looked_at >= tonumber(ARGV[3])
return reply
