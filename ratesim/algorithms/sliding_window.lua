-- Twin of sliding_window.py: the same float operations in the same order. s and p count from 1 here.
local rule = {}

local function window(p, now)
  local start = math.floor(now / p[2]) * p[2]
  if start > now or now >= start + p[2] then return now end
  return start
end

function rule.size(p) return p[3] + 2 end

function rule.start(s, p, now)
  s[1] = window(p, now)
  for i = 2, p[3] + 2 do s[i] = 0 end
end

function rule.refresh(s, p, now)
  if now >= s[1] + p[2] then
    local newest = window(p, now)
    local oldest = p[3] + 2
    local steps = math.min(math.max(math.floor((newest - s[1]) / p[2] + 0.5), 1), oldest - 1)
    for i = oldest, 2, -1 do
      if i - steps > 1 then s[i] = s[i - steps] else s[i] = 0 end
    end
    s[1] = newest
  end
end

function rule.rewind(s, p, now) s[1] = window(p, now) end

function rule.available(s, p, now)
  local oldest = p[3] + 2
  local used = 0
  for i = 2, oldest - 1 do used = used + s[i] end
  local share = 1 - (now - s[1]) / p[2]
  if share > 0 then used = used + s[oldest] * share end
  return p[1] - used
end

function rule.charge(s, p, cost, now)
  if now >= s[1] then
    s[2] = s[2] + cost
  else
    local steps = math.ceil((s[1] - now) / p[2])
    if steps <= p[3] then s[2 + steps] = s[2 + steps] + cost end
  end
end

function rule.retry_after(s, p, cost, now)
  if cost > p[1] then return math.huge end
  local oldest = p[3] + 2
  for roll = 0, oldest - 2 do
    local used = 0
    for i = 2, oldest - 1 - roll do used = used + s[i] end
    if p[1] - used >= cost then
      local fading = s[oldest - roll]
      if p[1] - (used + fading) >= cost then return s[1] + roll * p[2] - now end
      return s[1] + (roll + 1 - (p[1] - used - cost) / fading) * p[2] - now
    end
  end
  return s[1] + (oldest - 1) * p[2] - now
end

function rule.reset_after(s, p, now)
  local oldest = p[3] + 2
  for i = 2, oldest do
    if s[i] > 0 then return s[1] + (oldest + 1 - i) * p[2] - now end
  end
  return 0
end

return rule
