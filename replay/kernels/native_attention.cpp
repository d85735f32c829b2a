// Attention over a whole sequence, eight query rows of a head at a time: logits, weights and the mix of values without
// leaving the cache, keys that no row of the eight may see left out. Sums as in native_dot.h, formulas in docs/numerics.md.

#include "native_dot.h"

using namespace rpl;

namespace {

constexpr i64 ROWS = 8;
constexpr i32 VALUE_BITS = 18, WEIGHT_BITS = 22;

struct Shape {
    i64 tokens, heads, groups, size, causal, window;
    const u8* mask;  // [tokens] or null: which tokens are there
    i32 q_bits, k_bits;
    double scale;

    i64 stride() const { return (heads + 2 * groups) * size; }
    i64 pairs() const { return parts(size, 2); }            // of a query or key row
    i64 length() const { return parts(tokens, LANES) * 8; }  // pairs of tokens, whole registers of them
    i64 key_words() const { return parts(tokens, LANES) * pairs() * 4 * LANES; }
    i64 value_words() const { return parts(size, LANES) * length() * 4 * LANES; }
};

// Keys and values of one group: panels [tokens/16][pairs][2][16][2] and [size/16][pairs of tokens][2][16][2].
struct Group {
    i16 *keys, *values;
    double* unit;   // [tokens up to whole registers], of the keys
    i32* exponent;  // likewise, e of the values
    u8* bad;        // likewise, whether key or value has no grid
};

#ifdef RPL_DOT

void pack_group(const Shape& s, const float* x, i64 group, const Group& out, i32* q) {
    const i64 pairs = s.pairs(), rows = 2 * s.length();
    std::memset(q, 0, static_cast<std::size_t>(2 * pairs) * 4);
    for (i64 j = 0; j < rows; ++j) {
        const bool real = j < s.tokens;
        const float* key = x + j * s.stride() + (s.heads + group) * s.size;
        i32 e = EXPONENT_MIN;
        if (real)
            e = grid(key, s.size, s.k_bits, q);
        else
            std::memset(q, 0, static_cast<std::size_t>(s.size) * 4);
        out.unit[j] = power(e - 126 - s.k_bits);
        out.bad[j] = e > EXPONENT_MAX;
        i16* k = out.keys + j / LANES * pairs * 4 * LANES + j % LANES * 2;
        for (i64 p = 0; p < pairs; ++p, k += 4 * LANES)
            for (i64 i = 0; i < 2; ++i) {
                k[i] = static_cast<i16>(low(q[2 * p + i]));
                k[2 * LANES + i] = static_cast<i16>(high(q[2 * p + i]));
            }
        if (real) e = grid(key + s.groups * s.size, s.size, VALUE_BITS, q);
        out.exponent[j] = least(e, EXPONENT_MAX);
        out.bad[j] |= e > EXPONENT_MAX;
        for (i64 c = 0; c < parts(s.size, LANES) * LANES; ++c) {
            i16* v = out.values + (c / LANES * s.length() + j / 2) * 4 * LANES + c % LANES * 2 + j % 2;
            v[0] = c < s.size ? static_cast<i16>(low(q[c])) : 0;
            v[2 * LANES] = c < s.size ? static_cast<i16>(high(q[c])) : 0;
        }
    }
}

// scale·2^z for |z| <= 60, scale 2^WEIGHT_BITS
inline __m512 weight_of(__m512 z) {
    const __m512 round = _mm512_set1_ps(12582912.0f), shifted = _mm512_add_ps(z, round);
    const __m512 f = _mm512_sub_ps(z, _mm512_sub_ps(shifted, round));
    const auto c = [](i32 bits) { return _mm512_castsi512_ps(_mm512_set1_epi32(bits)); };
    __m512 p = _mm512_mul_ps(f, c(0x3aadecbd));
    p = _mm512_mul_ps(_mm512_add_ps(p, c(0x3c1e7459)), f);
    p = _mm512_mul_ps(_mm512_add_ps(p, c(0x3d635b6d)), f);
    p = _mm512_mul_ps(_mm512_add_ps(p, c(0x3e75fce1)), f);
    p = _mm512_mul_ps(_mm512_add_ps(p, c(0x3f317215)), f);
    p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
    const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(round));
    const __m512i up = _mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(WEIGHT_BITS)), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), up));
}

// Half to even, for 0 <= x <= 2^22
inline __m512i whole(__m512 x) { return _mm512_cvt_roundps_epi32(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

// Which of the keys j … j + 15 query row i may see.
inline __mmask16 seen(const Shape& s, i64 i, i64 j) {
    const i64 end = s.causal ? i + 1 : s.tokens, begin = s.window && s.causal ? most(0, i - s.window + 1) : 0;
    const u32 below = end - j >= 16 ? 0xffff : end > j ? (u32{1} << (end - j)) - 1 : 0;
    const u32 above = begin - j >= 16 ? 0 : begin > j ? 0xffffu << (begin - j) : 0xffff;
    u32 in = below & above;
    if (s.mask && in) {
        const __mmask16 inside = static_cast<__mmask16>(s.tokens - j >= 16 ? 0xffff : (u32{1} << (s.tokens - j)) - 1);
        in &= _mm_test_epi8_mask(_mm_maskz_loadu_epi8(inside, s.mask + j), _mm_set1_epi8(-1));
    }
    return static_cast<__mmask16>(in);
}

struct Scratch {
    std::vector<i32> q;
    std::vector<float> logits;  // [ROWS][tokens up to whole registers]
    std::vector<i16> queries, weights;
    std::vector<i32> row;
};

// The weights of one row as integers in `row`, first … last − 1 being the registers to look at. Returns false if the result
// is not finite; `total` D and `largest` E.
bool weights_of(const Shape& s, const Group& group, i64 i, i64 first, i64 last, const float* t, i32* row, double& total,
                i32& largest) {
    const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
    __m512 top = lowest;
    __m512i size = _mm512_setzero_si512(), most_e = size;
    __mmask16 any = 0, spoilt = 0;
    for (i64 j = first; j < last; j += LANES) {
        const __mmask16 in = seen(s, i, j);
        const __m512 here = _mm512_loadu_ps(t + j);
        any |= in;
        top = _mm512_mask_max_ps(top, in, top, here);
        size = _mm512_mask_max_epi32(size, in, size, _mm512_and_si512(_mm512_castps_si512(here), _mm512_set1_epi32(SIZE)));
        most_e = _mm512_mask_max_epi32(most_e, in, most_e, _mm512_loadu_si512(group.exponent + j));
        spoilt |= in & _mm_test_epi8_mask(_mm_loadu_si128(reinterpret_cast<const __m128i*>(group.bad + j)), _mm_set1_epi8(1));
    }
    if (!any || spoilt || _mm512_reduce_max_epi32(size) >= INFINITE) return false;
    largest = _mm512_reduce_max_epi32(most_e);
    const __m512 m = _mm512_set1_ps(_mm512_reduce_max_ps(top)), clamp = _mm512_set1_ps(-60.0f);
    const __m512 down = _mm512_set1_ps(single((254 - largest) << 23));
    __m512i sum = _mm512_setzero_si512();  // per lane at most 512 terms of 2^22
    for (i64 j = first; j < last; j += LANES) {
        const __mmask16 in = seen(s, i, j);
        const __m512 z = _mm512_max_ps(_mm512_sub_ps(_mm512_loadu_ps(t + j), m), clamp);
        const __m512 u = _mm512_maskz_mov_ps(in, weight_of(z));
        sum = _mm512_add_epi32(sum, whole(u));
        const __m512 up = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(group.exponent + j), 23));
        _mm512_storeu_si512(row + j, whole(_mm512_mul_ps(_mm512_mul_ps(u, up), down)));
    }
    const __m512i wide = _mm512_add_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(sum)),
                                          _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sum, 1)));
    total = static_cast<double>(_mm512_reduce_add_epi64(wide));
    return true;
}

// Rows i0 … i0 + real − 1 of one head. y: [tokens][heads·size]; lost [tokens][heads].
void attend(const Shape& s, const float* x, i64 head, i64 i0, const Group& group, Scratch& scratch, float* y, u8* lost) {
    const i64 real = least(ROWS, s.tokens - i0), rows = rows_at_once(real), pairs = s.pairs(), width = 2 * s.length();
    const i64 end = s.causal ? i0 + real : s.tokens;
    const i64 first = s.causal && s.window ? most(0, i0 - s.window + 1) / LANES * LANES : 0;
    const i64 last = parts(end, LANES) * LANES;
    double unit[ROWS];
    bool fine[ROWS];
    alignas(64) double tile[ROWS * LANES];
    for (i64 r = 0; r < rows; ++r) {
        i32 e = EXPONENT_MAX + 1;
        if (r < real)
            e = grid(x + (i0 + r) * s.stride() + head * s.size, s.size, s.q_bits, scratch.q.data());
        else
            std::memset(scratch.q.data(), 0, scratch.q.size() * 4);
        fine[r] = e <= EXPONENT_MAX;
        unit[r] = power(e - 126 - s.q_bits);
        put_two_digits(scratch.q.data(), pairs, rows, scratch.queries.data() + r * 2 * RUN);
    }

    const i64 piece = piece_of(s.q_bits, s.k_bits);
    for (i64 j = first; j < last; j += LANES) {
        tile_two_digits(rows, scratch.queries.data(), group.keys + j * pairs * 4, 0, pairs, piece, tile);
        const __m512d u0 = _mm512_loadu_pd(group.unit + j), u1 = _mm512_loadu_pd(group.unit + j + 8);
        const __m512d scale = _mm512_set1_pd(s.scale);
        for (i64 r = 0; r < real; ++r) {
            const __m512d by = _mm512_set1_pd(unit[r]);
            const __m512d t0 = _mm512_mul_pd(_mm512_mul_pd(_mm512_loadu_pd(tile + r * LANES), by), u0);
            const __m512d t1 = _mm512_mul_pd(_mm512_mul_pd(_mm512_loadu_pd(tile + r * LANES + 8), by), u1);
            float* t = scratch.logits.data() + r * width + j;
            _mm256_storeu_ps(t, _mm512_cvtpd_ps(_mm512_mul_pd(t0, scale)));
            _mm256_storeu_ps(t + 8, _mm512_cvtpd_ps(_mm512_mul_pd(t1, scale)));
        }
    }

    double total[ROWS], value[ROWS];
    for (i64 r = 0; r < rows; ++r) {
        i32 largest = EXPONENT_MIN;
        total[r] = 1.0;
        fine[r] = fine[r] && weights_of(s, group, i0 + r, first, last, scratch.logits.data() + r * width,
                                        scratch.row.data(), total[r], largest);
        if (!fine[r]) std::memset(scratch.row.data() + first, 0, static_cast<std::size_t>(last - first) * 4);
        value[r] = power(largest - 126 - VALUE_BITS);
        put_two_digits(scratch.row.data() + first, (last - first) / 2, rows, scratch.weights.data() + r * 2 * RUN);
        if (r < real) lost[(i0 + r) * s.heads + head] = !fine[r];
    }

    const i64 mixed = piece_of(WEIGHT_BITS, VALUE_BITS), columns = parts(s.size, LANES);
    for (i64 c = 0; c < columns; ++c) {
        const i16* panel = group.values + (c * s.length() + first / 2) * 4 * LANES;
        tile_two_digits(rows, scratch.weights.data(), panel, 0, (last - first) / 2, mixed, tile);
        const __mmask16 in = static_cast<__mmask16>((u32{1} << least(LANES, s.size - c * LANES)) - 1);
        for (i64 r = 0; r < real; ++r) {
            const __m512d by = _mm512_set1_pd(value[r]), d = _mm512_set1_pd(total[r]);
            const __m512d a = _mm512_div_pd(_mm512_mul_pd(_mm512_loadu_pd(tile + r * LANES), by), d);
            const __m512d b = _mm512_div_pd(_mm512_mul_pd(_mm512_loadu_pd(tile + r * LANES + 8), by), d);
            const __m512 both = _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a)), _mm512_cvtpd_ps(b), 1);
            _mm512_mask_storeu_ps(y + ((i0 + r) * s.heads + head) * s.size + c * LANES, in,
                                  _mm512_add_ps(both, _mm512_setzero_ps()));  // −0 becomes +0
        }
    }
}

#endif

}  // namespace

extern "C" {

// Bytes of scratch for keys and values.
i64 rpl_attention_room(i64 tokens, i64 groups, i64 size) {
    const Shape s{tokens, groups, groups, size, 0, 0, nullptr, 0, 0, 0.0};
    return groups * (2 * (s.key_words() + s.value_words()) + 2 * s.length() * (8 + 4 + 1)) + 64;
}

#ifdef RPL_DOT

// x [tokens][(heads + 2·groups)·size] → y [tokens][heads·size]; lost [tokens][heads]: rows that are not finite. Returns 1 if
// there are any.
int rpl_attention(const float* x, i64 tokens, i64 heads, i64 groups, i64 size, i32 causal, i64 window, const u8* mask,
                  i32 q_bits, i32 k_bits, double scale, float* y, u8* lost, u8* room, i64 threads) {
    const Shape s{tokens, heads, groups, size, causal, window, mask, q_bits, k_bits, scale};
    if (heads * tokens * tokens * size < 1 << 20) threads = 1;
    const i64 width = 2 * s.length();
    double* units = reinterpret_cast<double*>(room);
    i32* exponents = reinterpret_cast<i32*>(units + groups * width);
    i16* keys = reinterpret_cast<i16*>(exponents + groups * width);
    i16* values = keys + groups * s.key_words();
    u8* bads = reinterpret_cast<u8*>(values + groups * s.value_words());
    const auto group = [&](i64 g) {
        return Group{keys + g * s.key_words(), values + g * s.value_words(), units + g * width, exponents + g * width,
                     bads + g * width};
    };
    share(groups, threads, [&](i64 from, i64 to) {
        std::vector<i32> q(static_cast<std::size_t>(size + 2));
        for (i64 g = from; g < to; ++g) pack_group(s, x, g, group(g), q.data());
    });
    const i64 blocks = parts(tokens, ROWS);
    share(heads * blocks, threads, [&](i64 from, i64 to) {
        Scratch scratch{std::vector<i32>(static_cast<std::size_t>(size + 2)), std::vector<float>(ROWS * width),
                        std::vector<i16>(block_words(s.pairs(), ROWS, 3)), std::vector<i16>(block_words(s.length(), ROWS, 3)),
                        std::vector<i32>(width)};
        for (i64 n = from; n < to; ++n)
            attend(s, x, n / blocks, n % blocks * ROWS, group(n / blocks * groups / heads), scratch, y, lost);
    });
    u8 any = 0;
    for (i64 n = 0; n < tokens * heads; ++n) any |= lost[n];
    return any;
}

#else

int rpl_attention(const float*, i64, i64, i64, i64, i32, i64, const u8*, i32, i32, double, float*, u8*, u8*, i64) {
    return 1;
}

#endif

}  // extern "C"
