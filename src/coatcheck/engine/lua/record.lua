-- Shared by the scripts that look into the plain header of a record (docs/wire-format.md).
-- The epoch of a partition ends every session in it that was created then or before (ms).

local function big_endian(bytes, first, last)
  local number = 0
  for _, byte in ipairs({string.byte(bytes, first, last)}) do number = number * 256 + byte end
  return number
end

local function alive(record, epoch)
  return record and not (epoch and big_endian(record, 9, 14) <= tonumber(epoch))
end

