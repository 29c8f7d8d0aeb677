-- End sessions of a subject until only some are left, and count them. While sealing keys are being rotated a
-- subject has an index under each key; the limit holds over all of them.
-- KEYS: 1 subject's index  2 expiry index
-- ARGV: 1 sessions allowed (-1: any number)  2 'oldest' or 'idlest'  3 now  4 stem  5 digest
-- REPLY: {live sessions, ended handle, ...}
-- USES: index

local live = drop_dead(KEYS[1], KEYS[2], ARGV[4], ARGV[5])
local allowed = tonumber(ARGV[1])
if allowed < 0 then return {#live} end
local ended = evict(KEYS[1], KEYS[2], ARGV[4], ARGV[5], live, allowed, ARGV[2], tonumber(ARGV[3]))
return append({#live - #ended}, ended)
