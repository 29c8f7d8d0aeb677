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

-- Give the 4 bytes that stand for the class of the session's device (flag 8), or '' if the record names none.
local function class_of(record)
  local flags = string.byte(record, 2)
  if flags % 16 < 8 then return '' end
  local at = flags % 4 < 2 and 65 or 103  -- behind the former secret's 38 bytes, if there are any (flag 2)
  return string.sub(record, at, at + 3)
end

