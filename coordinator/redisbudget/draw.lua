-- One draw of one replica from the budget that several of them share.
--
-- What was drawn is paid for with time: at rate*part tokens per second, one after
-- another. "paid" is when all of it is. A bucket that was left alone is paid for
-- in the past, but never further back than room, which is how long it takes to
-- fill; one from which much was drawn is paid for in the future, and whoever comes
-- waits until then. So those who wait are served in the order in which they came,
-- and all of it is one number.
--
-- The hash also holds who is there, "r:" and the replica's name: when it drew
-- last, and which share of the budget it falls back to where it cannot draw. What
-- the silent ones may be using by themselves, the others do not get: part is what
-- is left of the budget. The shares of all are at most 1, so the silent ones have
-- no more than those who are there have not.
--
-- All times are in microseconds on this server's clock, since "born". Where that
-- clock is set back, time stands still here.
--
-- KEYS[1]  the hash of the budget
-- ARGV[1]  tokens per second of the whole budget
-- ARGV[2]  room
-- ARGV[3]  hold: how long after it is paid for a token may still be used
-- ARGV[4]  the replica's name
-- ARGV[5]  when the replica sent this, on this server's clock as it knows it
-- ARGV[6]  the replica's share; 0 where it leaves
-- ARGV[7]  tokens that it needs at least, or 0
-- ARGV[8]  tokens that it would take
-- ARGV[9]  tokens of earlier draws that it gives back
--
-- It answers the tokens, or -1 where what was sent is too old to count; in how
-- many microseconds they may be used, or where there are none, when to ask again;
-- how many replicas are there; and this server's clock.
local SILENT = 1000000   -- who has not drawn for so long counts as silent
local FORGET = 600000000 -- and is forgotten after so long
local COLD = 5000000     -- so long after nobody was there anybody may be silent
local AHEAD = 250000     -- so far ahead tokens are promised
local SLICE = 20000      -- no more than so much time is sold at once, but to who needs it
local BEFORE = 500000    -- so far ahead another server may have promised tokens, which was here before

local key, mine = KEYS[1], 'r:' .. ARGV[4]
local rate, room, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local share, need, want, unused = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local was = redis.call('HMGET', key, 'born', 'last', 'paid', 'part', 'check', 'there', 'cold', mine)
local born, paid = math.min(tonumber(was[1]) or clock, clock - (tonumber(was[2]) or 0)), tonumber(was[3]) or BEFORE
local part, check, there = tonumber(was[4]) or 1, tonumber(was[5]) or -1, tonumber(was[6]) or 0
local cold = tonumber(was[7]) or COLD
local now = clock - born
local sent = math.min(tonumber(ARGV[5]) - born, now)
if now - sent > SILENT then
	return {-1, 0, there, clock}
end

local function record(text)
	local seen, told = string.match(text, '^(%S+) (%S+)$')
	return tonumber(seen), tonumber(told)
end

local seen, told
if was[8] then
	seen, told = record(was[8])
end
local known = seen and now - seen <= SILENT
if share > 0 then
	redis.call('HSET', key, mine, string.format('%.17g %.17g', sent, share))
else
	redis.call('HDEL', key, mine)
end

-- Who is there is counted anew when that may have changed.
paid = math.max(paid, now - room)
if not known or told ~= share or now > check then
	local shares, silent, others = 0, 0, 0
	there, check = 0, now + SILENT
	local all = redis.call('HGETALL', key)
	for i = 1, #all, 2 do
		if string.sub(all[i], 1, 2) == 'r:' then
			local last, has = record(all[i + 1])
			if now - last > FORGET then
				redis.call('HDEL', key, all[i])
			elseif now - last > SILENT then
				silent = silent + has
			else
				there, shares, check = there + 1, shares + has, math.min(check, last + SILENT)
				if all[i] ~= mine then
					others = others + 1
				end
			end
		end
	end
	-- While nobody was there the silent ones may have used all that came in, and
	-- some of them may have come since.
	if not known and others == 0 then
		paid, cold = math.max(paid, now), now + COLD
	end
	local gone = math.max(0, 1 - shares)
	if now > cold then
		gone = math.min(gone, silent)
	end
	local left = math.max(0.0001, 1 - gone)
	paid = math.max(now + (paid - now) * part / left, now - room)
	part = left
end

local token = 1000000 / (rate * part)
paid = math.max(paid - unused * token, now - room)
local granted, wait = 0, 0
if need > 0 then
	wait = paid - now - AHEAD
	if wait <= 0 then
		-- What a replica gives back it may draw again beside, so that those whose
		-- calls do not fit into a slice get as much as the others.
		local slice = math.min(SLICE, AHEAD / math.max(1, there)) / token
		local most = math.min(slice + math.min(slice, unused), room / token)
		granted = math.max(need, math.min(want, math.floor(most)))
		paid = paid + granted * token
		wait = math.max(0, paid - now)
		if granted * token > room then
			paid = paid + hold -- more than the bucket holds: those who are late have to be waited for
		end
	end
end
redis.call('HSET', key, 'born', born, 'last', now, 'paid', paid, 'part', part, 'check', check, 'there', there, 'cold', cold)
redis.call('PEXPIRE', key, FORGET / 1000)
return {granted, math.ceil(wait), there, clock}
