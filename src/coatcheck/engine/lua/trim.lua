-- End sessions of a subject until only some are left, and count them. While sealing keys are being rotated a
-- subject has an index under each key; the limit holds over all of them.
-- KEYS: 1 subject's index  2 expiry index  3 epoch  4 events
-- ARGV: 1 sessions allowed (-1: any number)  2 'oldest' or 'idlest'  3 now  4 stem  5 digest
--       6 declared compartments
-- REPLY: {live sessions, ended handle, ...}
-- USES: record events index companions

local u, x, stem, digest, allowed = KEYS[1], KEYS[2], ARGV[4], ARGV[5], tonumber(ARGV[1])
local live = live_sessions(u, KEYS[3], stem)
local ended = allowed < 0 and {} or surplus(live, stem, allowed, ARGV[2], tonumber(ARGV[3]))
for _, handle in ipairs(ended) do
  erase(stem, handle, ARGV[6])
  leave(u, x, handle, digest)
  emit(KEYS[4], 'evicted', handle, digest, ARGV[3], '', '')
end
return append({#live - #ended}, ended)
