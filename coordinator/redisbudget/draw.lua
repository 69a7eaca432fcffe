-- One draw of one replica from the budget that several of them share.
--
-- The bucket is one number, "paid": the time until which all that came in is spent.
-- What came in since is there to be drawn, up to what the bucket holds, which is
-- what comes in within room. So the bucket is never drawn from ahead of its time.
--
-- Who finds too little gets a turn. Turns follow one another in the time that it
-- takes for a slice to come in, the last of them ends at "queue", and whoever comes
-- when its turn has come gets a slice. So all that want more than there is get the
-- same. What is there beyond a slice is for whoever comes first, at a turn or not.
--
-- The hash also holds who is there, "r:" and the replica's name: when it drew
-- last, and which share of the budget it falls back to where it cannot draw. What
-- the silent ones may be using by themselves, the others do not get: part is what
-- is left of the budget. The shares of all are at most 1, so the silent ones have
-- no more than those who are there have not.
--
-- All times are in microseconds on this server's clock, and those in the hash
-- count from "born". Where that clock is set back, time stands still here.
--
-- KEYS[1]  the hash of the budget
-- ARGV[1]  tokens per second of the whole budget
-- ARGV[2]  room
-- ARGV[3]  hold: how long after it was drawn a token may be used or given back
-- ARGV[4]  the replica's name
-- ARGV[5]  when the replica sent this, as it knows this server's clock
-- ARGV[6]  the replica's share; 0 where it leaves
-- ARGV[7]  tokens that it needs at least, or 0
-- ARGV[8]  tokens that it would take
-- ARGV[9]  tokens of its last draw that it gives back
-- ARGV[10] when it drew them
-- ARGV[11] its turn, or 0
-- ARGV[12] tokens that it has given back, with these, since it last drew some
--
-- It answers the tokens, or -1 where what was sent is too old to count; in how
-- many microseconds to ask again at the earliest; the replica's next turn, or 0;
-- how many replicas are there; and this server's clock.
local SILENT = 1000000   -- who has not drawn for so long counts as silent
local FORGET = 600000000 -- and is forgotten after so long
local COLD = 5000000     -- so long after nobody was there anybody may be silent
local SLICE = 20000      -- a slice takes no longer to come in than this,
local ROUND = 250000     -- nor those of all who are there than this
local LATE = 50000       -- a turn that is so long over is none
local TINY = 0.000001    -- tokens: what floating point makes of sums

local key, mine = KEYS[1], 'r:' .. ARGV[4]
local rate, room, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local share, need, want = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local unused, gave = tonumber(ARGV[9]), tonumber(ARGV[12])

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local was = redis.call('HMGET', key, 'born', 'last', 'paid', 'part', 'check', 'there', 'cold', 'queue', mine)
local born = math.min(tonumber(was[1]) or clock, clock - (tonumber(was[2]) or 0))
-- Before this bucket was born another may have been here, whose tokens are in use.
local paid = tonumber(was[3]) or hold
local part, check, there = tonumber(was[4]) or 1, tonumber(was[5]) or -1, tonumber(was[6]) or 0
local cold, queue = tonumber(was[7]) or 0, tonumber(was[8]) or 0
local now = clock - born
local sent = math.min(tonumber(ARGV[5]) - born, now)
if now - sent > SILENT then
	return {-1, 0, 0, there, clock}
end

local function record(text)
	local seen, told = string.match(text, '^(%S+) (%S+)$')
	return tonumber(seen), tonumber(told)
end

local seen, told
if was[9] then
	seen, told = record(was[9])
end
local known = seen and now - seen <= SILENT
if share > 0 then
	redis.call('HSET', key, mine, string.format('%.17g %.17g', sent, share))
else
	redis.call('HDEL', key, mine)
end

-- How long the bucket was full is known up to the hold: a call for more than it
-- holds needs that time beside, in which nobody else drew.
local full = room + hold
paid = math.max(paid, now - full)

-- Who is there is counted anew when that may have changed.
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
	-- The tokens that are there stay as many, as far as the bucket holds them.
	local left = math.max(0.0001, 1 - gone)
	if paid < now then
		paid = math.max(now - (now - paid) * part / left, now - full)
	end
	part = left
end

local token = 1000000 / (rate * part)
if unused > 0 and now - (tonumber(ARGV[10]) - born) <= hold then
	paid = math.max(paid - unused * token, math.min(paid, now - room))
end
local granted, wait, turn = 0, 0, math.max(0, tonumber(ARGV[11]) - born)
if need > 0 then
	local big = need * token > room
	local have = (now - paid) / token + TINY
	if not big then
		have = math.min(have, room / token + TINY)
	end
	local slice = math.max(1, math.floor(math.min(SLICE, ROUND / math.max(1, there), room / 3) / token))
	local function next_turn()
		local at = math.max(queue, now)
		queue = at + math.max(slice, need) * token
		if big then
			queue = queue + hold
		end
		return at
	end
	if turn == 0 or now - turn > LATE then
		turn = next_turn()
	end
	if turn <= now and have >= need then
		-- What a replica gave back it may draw again beside, so that those whose
		-- calls do not fit into a slice get as much as the others. What others let
		-- lie, for they came late, is beyond a slice.
		local most = math.min(have, slice + math.min(slice, gave))
		if not big then
			most = math.max(most, have - slice)
		end
		granted = math.max(need, math.min(want, math.floor(most)))
		turn = 0
		if want > granted then
			turn = next_turn()
			wait = turn - now
		end
	elseif have - slice >= need and not big then
		granted = math.max(need, math.min(want, math.floor(have - slice)))
	else
		wait = math.max(turn - now, (need - have) * token, 1)
	end
	if granted > 0 then
		if not big then
			paid = math.max(paid, now - room)
		end
		paid = paid + granted * token
	end
end
redis.call('HSET', key, 'born', born, 'last', now, 'paid', paid, 'part', part, 'check', check, 'there', there,
	'cold', cold, 'queue', queue)
redis.call('PEXPIRE', key, FORGET / 1000)
if turn > 0 then
	turn = turn + born
end
return {granted, math.ceil(wait), math.ceil(turn), there, clock}
