-- End sessions of a subject until only some of a class, and some of all, are left, and count them. While sealing keys
-- are being rotated a subject has an index under each key; the limits hold over all of them.
-- KEYS: 1 subject's index  2 expiry index  3 epoch  4 events
-- ARGV: 1 sessions allowed (-1: any number)  2 'oldest' or 'idlest'  3 now  4 stem  5 digest
--       6 declared compartments  7 class (4 bytes), or ''  8 sessions allowed of that class (-1: any number)
-- REPLY: {live sessions, live ones of the class, ended handle, ...}
-- USES: record events index companions

local u, x, stem, digest, class = KEYS[1], KEYS[2], ARGV[4], ARGV[5], ARGV[7]
local live, classes = live_sessions(u, KEYS[3], stem)
local allowed, of_class, now = tonumber(ARGV[1]), tonumber(ARGV[8]), tonumber(ARGV[3])
local ended = surplus(live, classes, class, of_class, allowed, stem, ARGV[2], now)
for _, handle in ipairs(ended) do
  erase(stem, handle, ARGV[6])
  leave(u, x, handle, digest)
  emit(KEYS[4], 'evicted', handle, digest, ARGV[3], '', '')
end
local left = count(live, classes, class) - count(ended, classes, class)
return append({#live - #ended, left}, ended)
