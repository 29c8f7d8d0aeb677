-- Read the activity of a session, if its record is there.
-- KEYS: 1 record of the session  2 epoch  3 activity
-- ARGV: 1 'XREVRANGE' (newest first) or 'XRANGE'  2 where to begin, an id or '-' or '+'  3 where to end  4 at most
-- REPLY: {id, entry, id, entry, ...}
-- USES: record

local reply = {}
if not alive(redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])) then return reply end
for _, entry in ipairs(redis.call(ARGV[1], KEYS[3], ARGV[2], ARGV[3], 'COUNT', ARGV[4])) do
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = entry[2][2]
end
return reply
