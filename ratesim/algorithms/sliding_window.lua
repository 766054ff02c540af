-- Twin of sliding_window.py: the same float operations in the same order. s and p count from 1 here.
local rule = {}

function rule.size(p) return p[3] + 2 end

function rule.start(s, p, now)
  s[1] = math.floor(now / p[2]) * p[2]
  for i = 2, p[3] + 2 do s[i] = 0 end
end

function rule.refresh(s, p, now)
  local window = math.floor(now / p[2]) * p[2]
  if window > s[1] then
    local oldest = p[3] + 2
    local steps = math.min(math.floor((window - s[1]) / p[2] + 0.5), oldest - 1)
    for i = oldest, 2, -1 do
      if i - steps > 1 then s[i] = s[i - steps] else s[i] = 0 end
    end
    s[1] = window
  end
end

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
    local window = math.floor(now / p[2]) * p[2]
    local steps = math.floor((s[1] - window) / p[2] + 0.5)
    if steps <= p[3] then s[2 + steps] = s[2 + steps] + cost end
  end
end

function rule.retry_after(s, p, cost, now)
  if cost > p[1] then return math.huge end
  local room = p[1] - cost
  local oldest = p[3] + 2
  for roll = 0, oldest - 2 do
    local used = 0
    for i = 2, oldest - 1 - roll do used = used + s[i] end
    if used <= room then
      local fading = s[oldest - roll]
      if fading <= room - used then return math.max(s[1] + roll * p[2] - now, 0) end
      return math.max(s[1] + (roll + 1 - (room - used) / fading) * p[2] - now, 0)
    end
  end
  return s[1] + (oldest - 1) * p[2] - now
end

function rule.fresh_after(s, p, now)
  local oldest = p[3] + 2
  for i = 2, oldest do
    if s[i] > 0 then return math.max(s[1] + (oldest + 1 - i) * p[2] - now, 0) end
  end
  return 0
end

return rule
