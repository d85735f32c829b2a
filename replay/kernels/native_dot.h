// Exact dot products of integers by the processor's products of 16-bit pairs, which it sums in int32, wrapping.
//
// Two digits of base 2^11 a side (grid hi, attention): q = d1·2^11 + d0, and three products in place of four, because
// d0·w1 + d1·w0 = (d0 + d1)(w0 + w1) − d0·w0 − d1·w1; no sum that is read exceeds int32, because K is cut into pieces.
// One digit a side (grid lo): see native_dot.cpp. Sums of pieces are added in fp64, where all of them are exact integers.
//
// Needs AVX-512 BW, DQ and VL (RPL_DOT), and is faster with VNNI.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include <immintrin.h>
#define RPL_DOT 1
#endif

namespace rpl {

using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u8 = std::uint8_t;
using u32 = std::uint32_t;

constexpr i64 LANES = 16;  // columns of a panel: what one register of int32 holds
constexpr i64 RUN = 128;   // pairs of K that stand together in a block of rows
constexpr i32 DIGIT = 11, HALF = 1 << (DIGIT - 1);
constexpr i64 MOST = (i64{1} << 31) - 1;
constexpr i32 EXPONENT_MIN = 27, EXPONENT_MAX = 226;
constexpr i32 INFINITE = 0x7f800000, SIZE = 0x7fffffff;

inline i32 word(float x) {
    i32 b;
    std::memcpy(&b, &x, 4);
    return b;
}
inline float single(i32 b) {
    float x;
    std::memcpy(&x, &b, 4);
    return x;
}
inline double power(i64 exponent) {
    const i64 b = (exponent + 1023) << 52;
    double x;
    std::memcpy(&x, &b, 8);
    return x;
}
inline i64 least(i64 x, i64 y) { return x < y ? x : y; }
inline i64 most(i64 x, i64 y) { return x > y ? x : y; }
inline i64 parts(i64 n, i64 step) { return (n + step - 1) / step; }

// OpenMP's entry for a team of threads, from the runtime that torch has loaded: two pools would wait for each other's
// processors. Null where torch has none; then threads are started and ended.
using Team = void (*)(void (*)(void*), void*, unsigned, unsigned);
inline Team team = nullptr;

// Whatever thread this is: subnormal numbers count, sums are rounded half to even, nothing traps (MXCSR at its default).
struct DefaultMode {
#ifdef RPL_DOT
    unsigned kept = _mm_getcsr();
    DefaultMode() { _mm_setcsr(0x1f80u); }
    ~DefaultMode() { _mm_setcsr(kept); }
#endif
};

// Work shared out over threads: `run(first, last)` for parts of it, each thread taking the next one that is left.
template <class Run>
void share(i64 count, i64 threads, const Run& run) {
    struct Job {
        const Run& run;
        i64 count, parts;
        std::atomic<i64> next{0};
        static void work(void* job) {
            Job& j = *static_cast<Job*>(job);
            const DefaultMode exact;
            for (i64 part; (part = j.next++) < j.parts;) j.run(j.count * part / j.parts, j.count * (part + 1) / j.parts);
        }
    };
    threads = most(1, least(threads, count));
    Job job{run, count, threads > 1 ? least(count, 4 * threads) : 1};
    if (threads == 1) return Job::work(&job);
    if (team) return team(Job::work, &job, static_cast<unsigned>(threads), 0);
    std::vector<std::thread> others;
    try {
        for (i64 t = 1; t < threads; ++t) others.emplace_back(Job::work, &job);
    } catch (const std::system_error&) {
        // no more threads to be had: those that there are do the work
    }
    Job::work(&job);
    for (auto& other : others) other.join();
}

// A row on its grid: q int32 [n]. Returns the biased exponent e; where the row has no grid, EXPONENT_MAX + 1, and q is 0.
inline i32 grid(const float* x, i64 n, i32 bits, i32* q) {
    i32 top = 0;
#pragma omp simd reduction(max : top)
    for (i64 i = 0; i < n; ++i) {
        const i32 b = word(x[i]) & SIZE;
        top = b > top ? b : top;
    }
    i32 e = top >> 23;
    if (e > EXPONENT_MAX) {
        std::memset(q, 0, static_cast<std::size_t>(n) * 4);
        return EXPONENT_MAX + 1;
    }
    e = e < EXPONENT_MIN ? EXPONENT_MIN : e;
    const i32 base = ((e + 24 - bits) << 23) | 0x400000;
    const float magic = single(base);
    for (i64 i = 0; i < n; ++i) q[i] = word(x[i] + magic) - base;
    return e;
}

inline i32 low(i32 q) { return ((q + HALF) & (2 * HALF - 1)) - HALF; }
inline i32 high(i32 q) { return (q + HALF) >> DIGIT; }

// The most pairs of K whose products in two digits sum to less than 2^31, for |q| <= 2^bits on either side.
inline i64 piece_of(i32 a_bits, i32 w_bits) {
    const i64 a0 = least(HALF, i64{1} << a_bits), w0 = least(HALF, i64{1} << w_bits);
    const i64 a1 = high(1 << a_bits), w1 = high(1 << w_bits);
    const i64 largest = most(a0 * w1 + a1 * w0, most(a0 * w0, a1 * w1));
    return least(MOST / largest, 1024) / 2;
}

// Rows that a kernel takes at once, of `left`: the last ones may be padding.
inline i64 rows_at_once(i64 left) { return left > 4 ? 8 : left > 2 ? 4 : left; }

// A block of rows stands as int16 [run][digits][rows][2·RUN]. This writes one row of it, of 2·pairs numbers.
inline void put_two_digits(const i32* q, i64 pairs, i64 rows, i16* block) {
    for (i64 first = 0; first < pairs; first += RUN, block += 3 * rows * 2 * RUN) {
        const i64 count = 2 * least(RUN, pairs - first);
        i16 *d0 = block, *d1 = d0 + rows * 2 * RUN, *both = d1 + rows * 2 * RUN;
        for (i64 i = 0; i < count; ++i) {
            const i32 value = q[2 * first + i];
            d0[i] = static_cast<i16>(low(value));
            d1[i] = static_cast<i16>(high(value));
            both[i] = static_cast<i16>(low(value) + high(value));
        }
    }
}
inline i64 block_words(i64 pairs, i64 rows, i64 digits) { return parts(pairs, RUN) * RUN * 2 * digits * rows; }

#ifdef RPL_DOT

typedef i32 __attribute__((may_alias)) Pair;

// sum += w·a for LANES columns, `a` a pair. In assembly, because compilers else spill the sums.
inline void dot(__m512i& sum, __m512i w, const i16* a) {
#ifdef __AVX512VNNI__
    asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*reinterpret_cast<const Pair*>(a)));
#else
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w, _mm512_set1_epi32(*reinterpret_cast<const Pair*>(a))));
#endif
}

// tile += sum·scale, fp64 [LANES]
inline void add(double* tile, __m512i sum, double scale, bool fresh) {
    const __m512d by = _mm512_set1_pd(scale);
    const __m512d left = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(sum)), by);
    const __m512d right = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sum, 1)), by);
    _mm512_storeu_pd(tile, fresh ? left : _mm512_add_pd(_mm512_loadu_pd(tile), left));
    _mm512_storeu_pd(tile + 8, fresh ? right : _mm512_add_pd(_mm512_loadu_pd(tile + 8), right));
}

// Pairs from … to − 1 of a block of rows times a panel [pairs][2 digits][LANES][2], added to tile [ROWS][LANES].
template <int ROWS>
void sum_two_digits(const i16* block, const i16* panel, i64 from, i64 to, double* tile, bool fresh) {
    __m512i lows[ROWS], highs[ROWS], both[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) lows[r] = highs[r] = both[r] = _mm512_setzero_si512();
    const i16* w = panel + from * 4 * LANES;
    for (i64 p = from; p < to;) {
        const i16* a = block + p / RUN * (3 * ROWS * 2 * RUN) + p % RUN * 2;
        for (const i64 end = least(to, (p / RUN + 1) * RUN); p < end; ++p, a += 2, w += 4 * LANES) {
            const __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 2 * LANES);
            const __m512i ws = _mm512_add_epi16(w0, w1);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r) {
                dot(lows[r], w0, a + r * 2 * RUN);
                dot(highs[r], w1, a + (ROWS + r) * 2 * RUN);
                dot(both[r], ws, a + (2 * ROWS + r) * 2 * RUN);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
        const __m512i cross = _mm512_sub_epi32(_mm512_sub_epi32(both[r], lows[r]), highs[r]);
        add(tile + r * LANES, highs[r], 1 << 2 * DIGIT, fresh);
        add(tile + r * LANES, cross, 1 << DIGIT, false);
        add(tile + r * LANES, lows[r], 1.0, false);
    }
}

// All pairs from … to − 1, in even pieces of at most `piece`.
template <int ROWS>
void pieces_two_digits(const i16* block, const i16* panel, i64 from, i64 to, i64 piece, double* tile) {
    const i64 count = parts(to - from, piece);
    for (i64 c = 0; c < count; ++c)
        sum_two_digits<ROWS>(block, panel, from + (to - from) * c / count, from + (to - from) * (c + 1) / count, tile, c == 0);
}

inline void tile_two_digits(i64 rows, const i16* block, const i16* panel, i64 from, i64 to, i64 piece, double* tile) {
    switch (rows) {
        case 8: return pieces_two_digits<8>(block, panel, from, to, piece, tile);
        case 4: return pieces_two_digits<4>(block, panel, from, to, piece, tile);
        case 2: return pieces_two_digits<2>(block, panel, from, to, piece, tile);
        default: return pieces_two_digits<1>(block, panel, from, to, piece, tile);
    }
}

#endif

}  // namespace rpl
