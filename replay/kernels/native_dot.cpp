// Linear operators by products of 16-bit digits (native_dot.h): the exact sums of docs/numerics.md, faster than dgemm.
//
// Grid lo has one digit a side: |q| <= 2^14 and 2^13. K is cut where a sum could leave int32, by Cauchy and Schwarz on the
// numbers at hand (|Σ a·w| <= ‖a‖·‖w‖ over chunks of K), and where a chunk is too large for that, by the bits.

#include "native_dot.h"

#include <cmath>

using namespace rpl;

namespace {

constexpr i64 CHUNK = 32;          // pairs of K under one norm
constexpr i64 CACHED = 96 << 10;   // elements of panels that are used together and should stay in the L2 cache
constexpr i64 SMALL = 1 << 20;     // products that are not worth a thread

#ifdef RPL_DOT

// ‖q‖, never too small.
float norm(const i32* q, i64 n) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (i64 i = 0; i < n; ++i) sum += static_cast<double>(q[i]) * q[i];
    return static_cast<float>(std::sqrt(sum) * 1.000001);
}

// The largest ‖·‖ of some rows, per chunk; the first row begins anew.
void norms_of(const i32* q, i64 pairs, bool first, float* norms) {
    for (i64 c = 0; c < parts(pairs, CHUNK); ++c) {
        const float size = norm(q + 2 * c * CHUNK, 2 * least(CHUNK, pairs - c * CHUNK));
        norms[c] = first || size > norms[c] ? size : norms[c];
    }
}

// Rows of the activation that go through a kernel at once: `rows`, of which `real` are in use.
struct Block {
    i64 first, rows, real;
    i16* words;
    float* norms;
};

void pack_rows(const float* x, i64 k, i32 bits, bool lo, const Block& block, double* unit, u8* bad) {
    const i64 pairs = parts(k, 2);
    std::vector<i32> held(2 * pairs, 0);
    for (i64 r = 0; r < block.rows; ++r) {
        i32 e = EXPONENT_MAX + 1;
        if (r < block.real) {
            e = grid(x + (block.first + r) * k, k, bits, held.data());
            bad[block.first + r] = e > EXPONENT_MAX;
            unit[block.first + r] = power(e - 126 - bits);
        } else {
            std::memset(held.data(), 0, held.size() * 4);
        }
        i16* row = block.words + r * 2 * RUN;
        if (!lo) {
            put_two_digits(held.data(), pairs, block.rows, row);
            continue;
        }
        norms_of(held.data(), pairs, r == 0, block.norms);
        for (i64 first = 0; first < pairs; first += RUN, row += block.rows * 2 * RUN)
            for (i64 i = 0; i < 2 * least(RUN, pairs - first); ++i) row[i] = static_cast<i16>(held[2 * first + i]);
    }
}

template <int ROWS>
void sum_one_digit(const i16* block, const i16* panel, i64 from, i64 to, double* tile, bool fresh) {
    __m512i sum[ROWS];
#pragma GCC unroll 24
    for (int r = 0; r < ROWS; ++r) sum[r] = _mm512_setzero_si512();
    const i16* w = panel + from * 2 * LANES;
    for (i64 p = from; p < to;) {
        const i16* a = block + p / RUN * (ROWS * 2 * RUN) + p % RUN * 2;
        for (const i64 end = least(to, (p / RUN + 1) * RUN); p < end; ++p, a += 2, w += 2 * LANES) {
            const __m512i here = _mm512_loadu_si512(w);
#pragma GCC unroll 24
            for (int r = 0; r < ROWS; ++r) dot(sum[r], here, a + r * 2 * RUN);
        }
    }
#pragma GCC unroll 24
    for (int r = 0; r < ROWS; ++r) add(tile + r * LANES, sum[r], 1.0, fresh);
}

// As many chunks at once as Cauchy and Schwarz allow; a chunk that is too large by itself in pieces.
template <int ROWS>
void tile_one_digit(const Block& block, const i16* panel, const float* norms, i64 pairs, i64 piece, double* tile) {
    constexpr float BOUND = 2147000000.0f;
    i64 from = 0;
    const auto sum = [&](i64 to) {
        sum_one_digit<ROWS>(block.words, panel, from, to, tile, from == 0);
        from = to;
    };
    float held = 0.0f;
    for (i64 c = 0; c * CHUNK < pairs; ++c) {
        const float more = block.norms[c] * norms[c];
        if (held + more > BOUND && from < c * CHUNK) {
            sum(c * CHUNK);
            held = 0.0f;
        }
        if (more > BOUND)
            for (const i64 end = least(pairs, (c + 1) * CHUNK); from < end;) sum(least(end, from + piece));
        else
            held += more;
    }
    if (from < pairs) sum(pairs);
}

void tile_lo(const Block& block, const i16* panel, const float* norms, i64 pairs, i64 piece, double* tile) {
    switch (block.rows) {
        case 24: return tile_one_digit<24>(block, panel, norms, pairs, piece, tile);
        case 16: return tile_one_digit<16>(block, panel, norms, pairs, piece, tile);
        case 8: return tile_one_digit<8>(block, panel, norms, pairs, piece, tile);
        case 4: return tile_one_digit<4>(block, panel, norms, pairs, piece, tile);
        case 2: return tile_one_digit<2>(block, panel, norms, pairs, piece, tile);
        default: return tile_one_digit<1>(block, panel, norms, pairs, piece, tile);
    }
}

// y = fp32(S·unit·unit + bias) of a tile. Returns the largest |y| so far, as bits.
__m512i write(const double* tile, i64 rows, const double* unit_x, const double* unit_w, const double* bias, i64 columns,
              float* y, i64 n, __m512i top) {
    const __mmask16 in = static_cast<__mmask16>((u32{1} << columns) - 1);
    const __mmask8 in0 = static_cast<__mmask8>(in), in1 = static_cast<__mmask8>(in >> 8);
    const __m512d w0 = _mm512_loadu_pd(unit_w), w1 = _mm512_loadu_pd(unit_w + 8);
    const __m512d b0 = bias ? _mm512_maskz_loadu_pd(in0, bias) : _mm512_setzero_pd();
    const __m512d b1 = bias ? _mm512_maskz_loadu_pd(in1, bias + 8) : _mm512_setzero_pd();
    for (i64 r = 0; r < rows; ++r) {
        const __m512d ux = _mm512_set1_pd(unit_x[r]);
        const __m512d t0 = _mm512_mul_pd(_mm512_mul_pd(_mm512_loadu_pd(tile + r * LANES), ux), w0);
        const __m512d t1 = _mm512_mul_pd(_mm512_mul_pd(_mm512_loadu_pd(tile + r * LANES + 8), ux), w1);
        const __m256 y0 = _mm512_cvtpd_ps(_mm512_add_pd(t0, b0)), y1 = _mm512_cvtpd_ps(_mm512_add_pd(t1, b1));
        const __m512 joined = _mm512_insertf32x8(_mm512_castps256_ps512(y0), y1, 1);
        const __m512 out = _mm512_add_ps(joined, _mm512_setzero_ps());  // −0 becomes +0
        top = _mm512_mask_max_epi32(top, in, top, _mm512_and_si512(_mm512_castps_si512(out), _mm512_set1_epi32(SIZE)));
        _mm512_mask_storeu_ps(y + r * n, in, out);
    }
    return top;
}

i64 rows_lo(i64 left) { return left > 16 ? 24 : left > 8 ? 16 : rows_at_once(left); }

#endif

}  // namespace

extern "C" {

void rpl_team(void* entry) { team = reinterpret_cast<Team>(entry); }

// 0: not on this processor. 1: by AVX-512 BW. 2: by VNNI.
int rpl_dot_kind() {
#if !defined(RPL_DOT)
    return 0;
#elif !defined(__AVX512VNNI__)
    return 1;
#else
    return 2;
#endif
}

// Bytes of scratch for m rows of k.
i64 rpl_dot_room(i64 m, i64 k, i32 lo) {
    const i64 pairs = parts(k, 2), rows = m + 24;
    return 2 * block_words(pairs, rows, lo ? 1 : 3) + 8 * rows + 4 * rows * parts(pairs, CHUNK);
}

#ifdef RPL_DOT

// A weight [n][k] on its grid: out [panels][pairs][digits][LANES][2], unit [panels·LANES], and under lo the largest ‖·‖ of a
// panel's rows [panels][chunks].
void rpl_dot_pack(const float* w, i64 n, i64 k, i32 bits, i32 lo, i16* out, double* unit, float* norms) {
    const i64 pairs = parts(k, 2), panels = parts(n, LANES), digits = lo ? 1 : 2;
    std::vector<i32> held(2 * pairs, 0);
    i32* q = held.data();
    for (i64 row = 0; row < panels * LANES; ++row) {
        i32 e = EXPONENT_MIN;
        if (row < n)
            e = grid(w + row * k, k, bits, q);
        else
            std::memset(q, 0, held.size() * 4);
        unit[row] = power(e - 126 - bits);
        i16* at = out + row / LANES * pairs * digits * 2 * LANES + row % LANES * 2;
        for (i64 i = 0; i < 2 * pairs; ++i) {
            i16* two = at + i / 2 * digits * 2 * LANES + i % 2;
            two[0] = static_cast<i16>(lo ? q[i] : low(q[i]));
            if (!lo) two[2 * LANES] = static_cast<i16>(high(q[i]));
        }
        if (lo) norms_of(q, pairs, row % LANES == 0, norms + row / LANES * parts(pairs, CHUNK));
    }
}

// y [m][n] = rows of x on their grid times a packed weight, plus bias (or null). bad [m]: rows without grid. Returns 1 if
// some row has none or some result is not finite.
int rpl_dot(const float* x, i64 m, i64 k, i32 a_bits, i32 w_bits, const i16* w, const double* unit_w, const float* norms_w,
            i64 n, i32 lo, const double* bias, float* y, u8* bad, u8* room, i64 threads) {
    const i64 pairs = parts(k, 2), chunks = parts(pairs, CHUNK), panels = parts(n, LANES);
    const i64 piece = lo ? (MOST >> (a_bits + w_bits)) / 2 : piece_of(a_bits, w_bits);
    if (m * n * k < SMALL) threads = 1;

    double* unit = reinterpret_cast<double*>(room);
    float* norms = reinterpret_cast<float*>(unit + m);
    i16* words = reinterpret_cast<i16*>(norms + (lo ? m * chunks : 0));
    std::vector<Block> blocks;
    for (i64 row = 0; row < m;) {
        const i64 rows = lo ? rows_lo(m - row) : rows_at_once(m - row), real = least(rows, m - row);
        blocks.push_back({row, rows, real, words, norms});
        words += block_words(pairs, rows, lo ? 1 : 3);
        norms += lo ? chunks : 0;
        row += real;
    }
    share(static_cast<i64>(blocks.size()), threads, [&](i64 first, i64 last) {
        for (i64 b = first; b < last; ++b) pack_rows(x, k, a_bits, lo, blocks[b], unit, bad);
    });

    const i64 size = pairs * (lo ? 1 : 2) * 2 * LANES, together = most(1, CACHED / size);
    std::vector<u8> lost(panels, 0);
    share(panels, threads, [&](i64 first, i64 last) {
        alignas(64) double tile[24 * LANES];
        __m512i top = _mm512_setzero_si512();
        for (i64 group = first; group < last; group += together)
            for (const Block& block : blocks)
                for (i64 panel = group; panel < least(last, group + together); ++panel) {
                    const i64 column = panel * LANES;
                    const i16* part = w + panel * size;
                    if (lo)
                        tile_lo(block, part, norms_w + panel * chunks, pairs, piece, tile);
                    else
                        tile_two_digits(block.rows, block.words, part, 0, pairs, piece, tile);
                    top = write(tile, block.real, unit + block.first, unit_w + column, bias ? bias + column : nullptr,
                                least(LANES, n - column), y + block.first * n + column, n, top);
                }
        lost[first] = _mm512_reduce_max_epi32(top) >= INFINITE;
    });
    u8 any = 0;
    for (const u8 one : lost) any |= one;
    for (i64 r = 0; r < m; ++r) any |= bad[r];
    return any;
}

#else

void rpl_dot_pack(const float*, i64, i64, i32, i32, i16*, double*, float*) {}
int rpl_dot(const float*, i64, i64, i32, i32, const i16*, const double*, const float*, i64, i32, const double*, float*,
            u8*, u8*, i64) {
    return 1;
}

#endif

}  // extern "C"
