"""The loops of the all-objects build: the pairs of a tile that matter, their similarity, and the lists they enter.

A list entry is one uint64 that sorts as neighbors do: the similarity, from the highest down, in its upper half, the
row in its lower half. A tile is a block of queries by a block of candidates; a slot is the place of a list in memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.native import native, native_sum

Keys = NDArray[np.uint64]

STRIP_BYTES = 2**19  # of the columns of a tile that are gone through together, so that their vectors stay in the cache
CHUNK = 16  # scores looked at together
TOGETHER = 4  # pairs of one query that are summed together, so that its vector is read once

u32, u64, f32, f64 = np.uint32, np.uint64, np.float32, np.float64
HALF, LOWER, LAST = u64(32), u64(2**32 - 1), u64(2**64 - 1)
SIGN, REST = u32(0x80000000), u32(0x7FFFFFFF)


@native_sum
def dots(
    a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int, k: int, m: int, n: int
) -> tuple[float, float, float, float]:
    """Σ a[i]·b[j] in float64, and the same for k, m and n: sums of exact products of float32 numbers, in any order."""
    # Unsigned, or each index would be checked for being negative, and the loop not be done in vectors.
    x, y, z, u, v = u64(i), u64(j), u64(k), u64(m), u64(n)
    of_j = of_k = of_m = of_n = 0.0
    for d in range(u64(a.shape[1])):
        value = f64(a[x, d])
        of_j += value * f64(b[y, d])
        of_k += value * f64(b[z, d])
        of_m += value * f64(b[u, d])
        of_n += value * f64(b[v, d])
    return of_j, of_k, of_m, of_n


@native_sum
def dots_of_two(a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int, k: int) -> tuple[float, float]:
    """The same for two of them."""
    x, y, z = u64(i), u64(j), u64(k)
    of_j = of_k = 0.0
    for d in range(u64(a.shape[1])):
        value = f64(a[x, d])
        of_j += value * f64(b[y, d])
        of_k += value * f64(b[z, d])
    return of_j, of_k


@native_sum
def dot(a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int) -> float:
    """The same for one."""
    x, y = u64(i), u64(j)
    total = 0.0
    for d in range(u64(a.shape[1])):
        total += f64(a[x, d]) * f64(b[y, d])
    return total


@native
def careful(a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int) -> tuple[float, float, float]:
    """The same sum as float64, with what its roundings lost, and those losses' absolute values added up.

    As Ogita, Rump and Oishi's Dot2 (2005), of products that are exact. Where nothing was lost, the sum is exact too.
    """
    total, lost, wrong = 0.0, 0.0, 0.0
    for d in range(a.shape[1]):
        product = f64(a[i, d]) * f64(b[j, d])
        more = total + product
        of_it = more - total
        rest = (total - (more - of_it)) + (product - of_it)
        lost += rest
        wrong += abs(rest)
        total = more
    return total, lost, wrong


@native
def rounded(a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int) -> np.float32:
    """The exact sum rounded once to float32, ties to even; 0 may have either sign."""
    total, lost, wrong = careful(a, i, b, j)
    near = total + lost
    slack = 2.0**-52 * (abs(near) + (a.shape[1] + 1) * wrong)
    if wrong == 0.0:
        slack = 0.0
    value = f32(near + slack)
    if value == f32(near - slack):
        return value
    value = f32(side_of(a, i, b, j, 0.0))  # of its largest part: the number next to it at most is nearer to the sum
    for end in (-np.inf, np.inf):
        other: np.float32 = np.nextafter(value, f32(end))
        side = side_of(a, i, b, j, 0.5 * (f64(value) + f64(other)))  # of the middle, which is exact
        if side * end > 0.0 or (side == 0.0 and odd(value)):
            return other
    return value


@native
def odd(value: np.float32) -> bool:
    """Whether the last bit of a number is 1, so that a tie goes to its neighbor."""
    held = np.empty(1, np.float32)
    held[0] = value
    return bool(held.view(np.uint32)[0] & u32(1))


@native
def side_of(a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int, middle: float) -> float:
    """A number with the sign of the exact sum less `middle`: the largest part of an expansion (Shewchuk 1997)."""
    parts = np.empty(a.shape[1] + 1, np.float64)  # each number adds one at most
    count = 0
    for d in range(a.shape[1] + 1):
        x = -middle if d == a.shape[1] else f64(a[i, d]) * f64(b[j, d])
        kept = 0
        for n in range(count):
            y = parts[n]
            if abs(x) < abs(y):
                x, y = y, x
            more = x + y
            rest = y - (more - x)
            if rest != 0.0:
                parts[kept] = rest
                kept += 1
            x = more
        count = kept
        if x != 0.0:
            parts[count] = x
            count += 1
    largest: float = parts[count - 1] if count else 0.0
    return largest


@native
def similar(
    a: NDArray[np.float32],
    i: int,
    b: NDArray[np.float32],
    hits: NDArray[np.int64],
    found: int,
    error: float,
    sums: NDArray[np.float64],
    similarity: NDArray[np.float32],
) -> None:
    """Canonical similarities of a[i] and each b[hits[:found]]; one more of hits, sums and similarities is written."""
    bits = similarity.view(np.uint32)
    hits[found] = hits[found - 1]  # of three, a fourth is summed too
    for n in range(0, found, TOGETHER):
        if found - n > 2:
            sums[n], sums[n + 1], sums[n + 2], sums[n + 3] = dots(
                a, i, b, hits[n], hits[n + 1], hits[n + 2], hits[n + 3]
            )
        elif found - n == 2:
            sums[n], sums[n + 1] = dots_of_two(a, i, b, hits[n], hits[n + 1])
        else:
            sums[n] = dot(a, i, b, hits[n])
    for n in range(found):
        similarity[n] = f32(sums[n] + error)
        if similarity[n] != f32(sums[n] - error):
            similarity[n] = rounded(a, i, b, hits[n])
        if bits[n] == SIGN:
            bits[n] = u32(0)  # −0 becomes 0


@native
def settle(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    columns: NDArray[np.int64],
    count: NDArray[np.int64],
    error: float,
    out: NDArray[np.float32],
    begin: int,
    end: int,
) -> None:
    """Canonical similarities of the vectors a[begin:end] with the first count[i] of b[columns[i]], to out (q, w).

    error : bound of `dots`' error.
    """
    width = columns.shape[1] + TOGETHER
    hits, sums = np.empty(width, np.int64), np.empty(width, np.float64)
    similarity = np.empty(width, np.float32)
    for i in range(begin, end):
        found = count[i]
        if found:
            hits[:found] = columns[i, :found]
            similar(a, i, b, hits, found, error, sums, similarity)
            out[i, :found] = similarity[:found]


@native
def enter_tile(
    scores: NDArray[np.generic],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    query_floor: NDArray[np.generic],
    candidate_floor: NDArray[np.generic],
    error: float,
    i_slot: NDArray[np.int64],
    j_slot: NDArray[np.int64],
    i_row: NDArray[np.int64],
    j_row: NDArray[np.int64],
    sides: int,
    keys: Keys,
    count: NDArray[np.int64],
    worst: Keys,
    k: int,
    seen: NDArray[np.int32],
    value: NDArray[np.float32],
) -> tuple[int, int]:
    """Enter the pairs of a tile whose score reaches the floor of either side into the lists of their queries and, of
    two sides, of their candidates too.

    scores (q, c) and the floors (q,), (c,) : of one type, float32, or int16 that sorts as the numbers do.
    a (q, D), b (c, D) : the vectors. first, last (q,) : the columns of each query that are in its window.
    error : bound of `dots`' error. i_slot, i_row (q,), j_slot, j_row (c,) : slots and rows of queries and candidates.
    seen (n, 2), value (n,) : take some of the pairs and their similarities.
    Returns how many pairs were settled, and of how many pairs `seen` now tells.
    """
    settled, kept = 0, 0
    columns, room = scores.shape[1], keys.shape[1]
    strip = CHUNK * (1 + STRIP_BYTES // (4 * CHUNK * b.shape[1]))
    hits = np.empty(strip + TOGETHER, np.int64)
    sums = np.empty(strip + TOGETHER, np.float64)
    similarity = np.empty(strip + TOGETHER, np.float32)
    bits = similarity.view(np.uint32)
    for s in range(0, columns, strip):
        stop = min(s + strip, columns)
        for i in range(len(first)):
            low, high = max(s, first[i]), min(stop, last[i])
            floor, found = query_floor[i], 0
            for c in range(low, high, CHUNK):
                to = min(c + CHUNK, high)
                hit = False
                for j in range(u64(c), u64(to)):
                    hit |= (scores[u64(i), j] >= floor) | (scores[u64(i), j] >= candidate_floor[j])
                if not hit:
                    continue
                for j in range(u64(c), u64(to)):
                    hits[u64(found)] = j
                    found += (scores[u64(i), j] >= floor) | (scores[u64(i), j] >= candidate_floor[j])
            if found == 0:
                continue
            settled += found
            similar(a, i, b, hits, found, error, sums, similarity)
            if kept < len(value):
                seen[kept, 0], seen[kept, 1], value[kept] = i, hits[0], similarity[0]
                kept += 1
            slot, row = i_slot[i], u64(i_row[i])
            length, least = count[slot], worst[slot]
            for n in range(u64(found)):
                column = u64(hits[n])
                upper = u64(bits[n] if bits[n] & SIGN else ~bits[n] & REST) << HALF
                key = upper | u64(j_row[column])
                if key <= least:
                    keys[slot, length] = key
                    length += 1
                    if length == room:
                        least = cut(keys[slot], room, k)
                        length = k
                if sides == 2:
                    key = upper | row
                    other = u64(j_slot[column])
                    if key <= worst[other]:
                        keys[other, u64(count[other])] = key
                        count[other] += 1
                        if count[other] == room:
                            worst[other] = cut(keys[other], room, k)
                            count[other] = k
            count[slot], worst[slot] = length, least
    return settled, kept


@native
def close(
    slots: NDArray[np.int64], keys: Keys, count: NDArray[np.int64], k: int, begin: int, end: int, out: Keys
) -> None:
    """The k best of the lists in slots[begin:end], in no order, and LAST where a list is shorter, to out (n, k)."""
    for n in range(begin, end):
        slot = slots[n]
        if count[slot] > k:
            cut(keys[slot], count[slot], k)
            count[slot] = k
        length = count[slot]
        out[n, :length] = keys[slot, :length]
        out[n, length:] = LAST


@native
def opened(keys: Keys, begin: int, end: int, rows: NDArray[np.int64], value: NDArray[np.float32]) -> None:
    """Rows and similarities (n, k) of the keys[begin:end]; −1 and NaN where a list has ended."""
    bits = value.view(np.uint32)
    for n in range(u64(begin), u64(end)):
        for m in range(u64(keys.shape[1])):
            key = keys[n, m]
            upper = u32(key >> HALF)
            rows[n, m] = key & LOWER
            bits[n, m] = upper if upper & SIGN else ~upper & REST
            if key == LAST:
                rows[n, m], value[n, m] = -1, np.nan


@native
def cut(keys: Keys, n: int, k: int) -> np.uint64:
    """Bring the k smallest of keys[:n] to the front and return the largest of them (Hoare's quickselect)."""
    low, high, wanted = 0, n - 1, k - 1
    while low < high:
        pivot = keys[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    largest: np.uint64 = keys[wanted]
    return largest
