-- Twin of fixed_window.py: the same float operations in the same order. s and p count from 1 here.
local rule = {}

local function window(p, now)
  local start = math.floor(now / p[2]) * p[2]
  if start > now or now >= start + p[2] then return now end
  return start
end

function rule.size(p) return 2 end

function rule.start(s, p, now)
  s[1] = window(p, now)
  s[2] = 0
end

function rule.refresh(s, p, now)
  if now >= s[1] + p[2] then
    s[1] = window(p, now)
    s[2] = 0
  end
end

function rule.rewind(s, p, now) s[1] = window(p, now) end

function rule.available(s, p, now) return p[1] - s[2] end

function rule.charge(s, p, cost, now)
  if now >= s[1] then s[2] = s[2] + cost end
end

function rule.retry_after(s, p, cost, now)
  if cost > p[1] then return math.huge end
  return s[1] + p[2] - now
end

function rule.reset_after(s, p, now)
  if s[2] == 0 then return 0 end
  return s[1] + p[2] - now
end

return rule
