// The tile tree of a tensor (docs/numerics.md) by the processor's SHA-256 instructions, two messages at a time: each waits
// for its own rounds, so that two together take hardly longer than one. Nothing is copied but the ends of rows.

#include "native_dot.h"

#if defined(__SHA__) && defined(__SSE4_1__) && defined(__SSSE3__)
#include <immintrin.h>
#define RPL_SHA 1
#endif

using namespace rpl;

#ifdef RPL_SHA

namespace {

constexpr i64 BLOCK = 64, TILE = 1024, HASH = 32;
constexpr u8 TAG_TILE = 0, TAG_NODE = 1;

alignas(16) constexpr u32 ROUNDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// N messages on their way. The instructions want the state as (A, B, E, F) and (C, D, G, H), the first in the top lane.
template <int N>
struct Hashes {
    __m128i abef[N], cdgh[N];

    Hashes() {
        for (int n = 0; n < N; ++n) {
            abef[n] = _mm_set_epi32(0x6a09e667, static_cast<i32>(0xbb67ae85u), 0x510e527f, static_cast<i32>(0x9b05688cu));
            cdgh[n] = _mm_set_epi32(0x3c6ef372, static_cast<i32>(0xa54ff53au), 0x1f83d9ab, 0x5be0cd19);
        }
    }

    void take(const u8* const (&block)[N]) {
        const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
        __m128i w[N][4], first[N], second[N];
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) {
            first[n] = abef[n];
            second[n] = cdgh[n];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i)
                w[n][i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block[n]) + i), big_endian);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
            const __m128i k = _mm_load_si128(reinterpret_cast<const __m128i*>(ROUNDS) + i);
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) {
                __m128i& now = w[n][i % 4];
                const __m128i sum = _mm_add_epi32(now, k);
                cdgh[n] = _mm_sha256rnds2_epu32(cdgh[n], abef[n], sum);
                abef[n] = _mm_sha256rnds2_epu32(abef[n], cdgh[n], _mm_shuffle_epi32(sum, 0x0e));
                if (i < 12) {  // the words of four groups later
                    const __m128i &next = w[n][(i + 1) % 4], &third = w[n][(i + 2) % 4], &last = w[n][(i + 3) % 4];
                    now = _mm_add_epi32(_mm_sha256msg1_epu32(now, next), _mm_alignr_epi8(last, third, 4));
                    now = _mm_sha256msg2_epu32(now, last);
                }
            }
        }
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) {
            abef[n] = _mm_add_epi32(abef[n], first[n]);
            cdgh[n] = _mm_add_epi32(cdgh[n], second[n]);
        }
    }

    void give(u8* const (&out)[N]) const {
        const __m128i turned = _mm_set_epi64x(0x0001020304050607LL, 0x08090a0b0c0d0e0fLL);
        for (int n = 0; n < N; ++n) {
            const __m128i top = _mm_unpackhi_epi64(cdgh[n], abef[n]), low = _mm_unpacklo_epi64(cdgh[n], abef[n]);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out[n]), _mm_shuffle_epi8(top, turned));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out[n]) + 1, _mm_shuffle_epi8(low, turned));
        }
    }
};

// N messages of a tag and `size` bytes each, a multiple of the block: every block but the first lies in the data as it is,
// one byte before its place.
template <int N>
void hash(u8 tag, const u8* const (&data)[N], i64 size, u8* const (&out)[N]) {
    Hashes<N> hashes;
    u8 ends[N][2][BLOCK] = {};
    const u8 *head[N], *tail[N];
    for (int n = 0; n < N; ++n) {
        ends[n][0][0] = tag;
        std::memcpy(ends[n][0] + 1, data[n], BLOCK - 1);
        ends[n][1][0] = data[n][size - 1];
        ends[n][1][1] = 0x80;
        const i64 bits = 8 * (size + 1);
        for (int i = 0; i < 8; ++i) ends[n][1][BLOCK - 1 - i] = static_cast<u8>(bits >> 8 * i);
        head[n] = ends[n][0];
        tail[n] = ends[n][1];
    }
    hashes.take(head);
    for (i64 at = BLOCK; at < size; at += BLOCK) {
        const u8* block[N];
        for (int n = 0; n < N; ++n) block[n] = data[n] + at - 1;
        hashes.take(block);
    }
    hashes.take(tail);
    hashes.give(out);
}

// Messages that stand one behind the other; `out` may overlap what was read before.
void hash_all(u8 tag, const u8* data, i64 size, i64 count, u8* out) {
    i64 i = 0;
    for (; i + 1 < count; i += 2) hash<2>(tag, {data + i * size, data + (i + 1) * size}, size, {out + i * HASH, out + (i + 1) * HASH});
    if (i < count) hash<1>(tag, {data + i * size}, size, {out + i * HASH});
}

}  // namespace

#endif

extern "C" {

// Whether rpl_root may be called.
int rpl_sha() {
#ifdef RPL_SHA
    return 1;
#else
    return 0;
#endif
}

#ifdef RPL_SHA

// The root of the tree over the tiles of `rows` rows of `width` bytes; it comes to stand at the beginning of `leaves`, which
// has 32 bytes for every tile.
void rpl_root(const u8* data, i64 rows, i64 width, u8* leaves, i64 threads) {
    const i64 whole = width / TILE, rest = width % TILE, each = whole + (rest > 0);
    if (rows * width < 1 << 18) threads = 1;
    share(rows, threads, [&](i64 first, i64 last) {
        if (rest == 0) return hash_all(TAG_TILE, data + first * width, TILE, (last - first) * whole, leaves + first * each * HASH);
        u8 end[TILE] = {};
        for (i64 row = first; row < last; ++row) {
            const u8* from = data + row * width;
            u8* out = leaves + row * each * HASH;
            hash_all(TAG_TILE, from, TILE, whole, out);
            std::memcpy(end, from + whole * TILE, static_cast<std::size_t>(rest));
            hash<1>(TAG_TILE, {end}, TILE, {out + whole * HASH});
        }
    });
    u8 pad[2 * HASH] = {};
    for (i64 count = rows * each; count > 1; count = (count + 1) / 2) {
        const i64 pairs = count / 2;
        if (count % 2) {
            u8 both[2 * HASH];
            std::memcpy(both, leaves + 2 * pairs * HASH, HASH);
            std::memcpy(both + HASH, pad, HASH);
            hash_all(TAG_NODE, leaves, 2 * HASH, pairs, leaves);
            hash<1>(TAG_NODE, {both}, 2 * HASH, {leaves + pairs * HASH});
        } else {
            hash_all(TAG_NODE, leaves, 2 * HASH, pairs, leaves);
        }
        hash<1>(TAG_NODE, {pad}, 2 * HASH, {pad});
        std::memcpy(pad + HASH, pad, HASH);
    }
}

#else

void rpl_root(const u8*, i64, i64, u8*, i64) {}

#endif

}  // extern "C"
