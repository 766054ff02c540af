-- acquire.lua for one sliding log as it usually is: the same float operations in the same order (sliding_log.lua, log.lua), with
-- one HMGET, one HSET, and the chunk that holds the oldest entry. Whatever else there may be is left to acquire.lua, before
-- anything is written: a state that is too far ahead, of an earlier version, or of another algorithm.
-- KEYS: the identifier's hash. ARGV: now, cost, seconds that the state may be ahead, rate, period, field prefix where the limit
-- has a name. Answers four doubles: 1 or 0 for admitted or denied, remaining, retry_after, reset_after. Before this come CONSUME,
-- NAMED, SERVER, LEAST and MARGIN (ratesim/storage/redis/log_limit.py).
repeat
  local call, pack, unpack_doubles = redis.call, struct.pack, struct.unpack
  local key, cost, skew, rate, period = KEYS[1], ARGV[2] - 0, ARGV[3] - 0, ARGV[4] - 0, ARGV[5] - 0
  local now
  if SERVER then
    local time = call('TIME')
    now = time[1] + time[2] / 1e6
  else
    now = ARGV[1] - 0
  end
  local head_field, log_field, chunk_field = 'log_head', 'log', 'log:'
  if NAMED then head_field, log_field, chunk_field = ARGV[6] .. 'log_head', ARGV[6] .. 'log', ARGV[6] .. 'log:' end
  local found = call('HMGET', key, head_field, log_field)
  local at, used, log, requests, open, begins, oldest = now, 0, '', 0, 0, 1, 0
  local newest, chunk, time, its, gone
  if found[1] then
    local expires_at, _, last
    expires_at, _, requests, last, used, open, begins, oldest = unpack_doubles('>dddddddd', found[1])
    if expires_at <= now or last - now > skew then break end
    at, log = math.max(now, last), found[2]
    if log ~= '' then newest = unpack_doubles('>d', log, #log - 15) end
  elseif call('HEXISTS', key, NAMED and ARGV[6] .. 'algorithm' or 'algorithm') == 1 then
    break
  end
  local place = begins % 512
  local first = open - (begins - place) / 512

  if newest and at >= oldest + period then
    if at >= newest + period then
      if first < open then break end
      used, log, place, newest = 0, '', 1, nil
    else
      chunk = first < open and call('HGET', key, chunk_field .. first) or log
      time, its = unpack_doubles('>dd', chunk, place)
      repeat
        used = used - its
        place = place + 16
        if place > #chunk then
          gone = gone or {}
          gone[#gone + 1] = chunk_field .. first
          first, place = first + 1, 1
          chunk = first < open and call('HGET', key, chunk_field .. first) or log
        end
        time, its = unpack_doubles('>dd', chunk, place)
      until at < time + period
      oldest = time
      if gone and #gone > 1000 then break end
    end
  end

  local left = rate - used
  local reset_after = newest and newest + period - at + (at - now) or at - now
  if left < cost then
    local wait = math.huge
    if cost <= rate then
      if not newest then break end
      if not chunk then
        chunk = first < open and call('HGET', key, chunk_field .. first) or log
        time, its = unpack_doubles('>dd', chunk, place)
      end
      local later, number, before = used, first, nil
      repeat
        later, before = later - its, time
        place = place + 16
        if place > #chunk and number < open then
          number, place = number + 1, 1
          chunk = number < open and call('HGET', key, chunk_field .. number) or log
        end
        time = nil
        if place <= #chunk then time, its = unpack_doubles('>dd', chunk, place) end
      until not time or rate - later >= cost
      local micros = math.max(math.ceil((before + period - at + (at - now)) * 1e6), 1)
      local enough = math.max(now + micros / 1e6, at)
      if enough < before + period or time and enough >= time + period or micros >= 1e18 then break end
      wait = micros / 1e6
    end
    return pack('>dddd', 0, math.max(left, 0), wait, reset_after)
  end

  if CONSUME then
    if cost ~= 0 and at + period > at then
      used = used + cost
      if newest and newest >= at then
        if newest > at then break end
        local _, sum = unpack_doubles('>dd', log, #log - 15)
        log = string.sub(log, 1, -17) .. pack('>dd', at, sum + cost)
      else
        if #log >= CHUNK then
          call('HSET', key, chunk_field .. open, log)
          open, log = open + 1, ''
        end
        log = log .. pack('>dd', at, cost)
        if not newest then oldest = at end
      end
      newest = at
      left = rate - used
      reset_after = at + period - at + (at - now)
    end
    if gone then call('HDEL', key, unpack(gone)) end
    begins = (open - first) * 512 + place
    local head = pack('>dddddddd', now + reset_after + MARGIN, at, requests + 1, at, used, open, begins, oldest)
    if found[1] then
      call('HSET', key, head_field, head, log_field, log)
    else
      local algorithm, created_at = 'algorithm', 'created_at'
      if NAMED then algorithm, created_at = ARGV[6] .. 'algorithm', ARGV[6] .. 'created_at' end
      call(
        'HSET', key, algorithm, 'sliding_log', created_at, string.format('%.17g', now), head_field, head, log_field, log
      )
    end
    -- An eighth longer than needed, so that it is not said at each decision.
    local seconds = math.min(math.max(reset_after + MARGIN + skew, LEAST), 1e10)
    if call('PTTL', key) < seconds * 1000 then call('PEXPIRE', key, math.ceil(seconds * 1125)) end
  end
  return pack('>dddd', 1, math.max(left, 0), 0, reset_after)
until true
local ARGV = {
  SERVER and 'server' or ARGV[1], ARGV[2], CONSUME and '1' or '0', LEAST, MARGIN, NAMED and ARGV[6] or '', 'sliding_log', ARGV[3],
  '2', ARGV[4], ARGV[5]
}
