// The elementwise work of the hot path in one pass each: what torch does in several, with the same bits.
//
// Compiled with -ffp-contract=off and without any fast-math option: every operation rounds as written. Sums are sums of
// integers, so the compiler may order them as it likes. docs/numerics.md has the formulas. A function that can meet a
// result that is not finite returns 1 if there is one, and the caller then finds the first.

#include "native_dot.h"

using namespace rpl;

namespace {

using i8 = std::int8_t;

constexpr float CLAMP = 60.0f;

inline double double_of(i64 b) {
    double x;
    std::memcpy(&x, &b, 8);
    return x;
}

inline i64 bits_of(double x) {
    i64 b;
    std::memcpy(&b, &x, 8);
    return b;
}

inline float lower(float x, float y) { return x < y ? x : y; }
inline float higher(float x, float y) { return x > y ? x : y; }

// The biased exponent of the largest |x|; above EXPONENT_MAX the row has no grid.
inline i32 top_of(const float* x, i64 n) {
    i32 top = 0;
#pragma omp simd reduction(max : top)
    for (i64 i = 0; i < n; ++i) {
        const i32 b = word(x[i]) & SIZE;
        top = b > top ? b : top;
    }
    return top >> 23;
}

inline i32 clamped(i32 e) { return e < EXPONENT_MIN ? EXPONENT_MIN : e > EXPONENT_MAX ? EXPONENT_MAX : e; }
// 1.5·2^23 units: adding it in fp32 rounds half to even to the grid of `bits`
inline i32 magic_of(i32 e, i32 bits) { return ((e + 24 - bits) << 23) | 0x400000; }

// 2^(z + bias) in fp32, |z| <= 60
inline float exp2_of(float z, i32 bias) {
    const float shifted = z + 12582912.0f;
    const float f = z - (shifted - 12582912.0f);
    float p = f * single(0x3aadecbd);
    p = (p + single(0x3c1e7459)) * f;
    p = (p + single(0x3d635b6d)) * f;
    p = (p + single(0x3e75fce1)) * f;
    p = (p + single(0x3f317215)) * f;
    p = p + 1.0f;
    const i32 n = word(shifted) - word(12582912.0f);
    return single(word(p) + (n + bias) * (1 << 23));
}

inline float rsqrt_of(float v) {
    const double wide = v;
    double y = double_of(0x5FE6EB50C7B537A9LL - (bits_of(wide) >> 1));
    const double half = wide * 0.5;
    for (int step = 0; step < 4; ++step) y = y * (1.5 - (half * y) * y);
    return static_cast<float>(y);
}

// Whether any of the n results is Inf or NaN
inline int lost(const float* y, i64 n) {
    i32 top = 0;
#pragma omp simd reduction(max : top)
    for (i64 i = 0; i < n; ++i) {
        const i32 b = word(y[i]) & SIZE;
        top = b > top ? b : top;
    }
    return top >= INFINITE;
}

}  // namespace

extern "C" {

const char* rpl_compiler() { return __VERSION__; }

// Rows on their grid as fp64 multiples of the unit; field: e << 23 per row. Returns 1 if a row has no grid.
int rpl_grid64(const float* x, i64 rows, i64 n, i32 bits, double* a, u8* bad) {
    int any = 0;
    for (i64 r = 0; r < rows; ++r) {
        const i32 found = top_of(x + r * n, n);
        bad[r] = found > EXPONENT_MAX;
        any |= bad[r];
        const float magic = single(magic_of(clamped(found), bits));
        const float* row = x + r * n;
        double* out = a + r * n;
        for (i64 i = 0; i < n; ++i) out[i] = static_cast<double>((row[i] + magic) - magic);
    }
    return any;
}

// Rows as `count` balanced base-256 digits, the most significant first: a [rows][count][wide]; unit: 2^(e - 126 - bits).
int rpl_digits(const float* x, i64 rows, i64 n, i64 wide, i32 bits, i32 count, i8* a, double* unit, u8* bad) {
    int any = 0;
    for (i64 r = 0; r < rows; ++r) {
        const i32 found = top_of(x + r * n, n), e = clamped(found);
        bad[r] = found > EXPONENT_MAX;
        any |= bad[r];
        unit[r] = power(e - 126 - bits);
        const i32 base = magic_of(e, bits);
        const float magic = single(base);
        const float* row = x + r * n;
        i8* out = a + r * count * wide;
        if (count == 3) {
            for (i64 i = 0; i < n; ++i) {
                const i32 q = word(row[i] + magic) - base, q1 = (q + 128) >> 8;
                out[2 * wide + i] = static_cast<i8>(q);
                out[wide + i] = static_cast<i8>(q1);
                out[i] = static_cast<i8>((q1 + 128) >> 8);
            }
        } else {
            for (i64 i = 0; i < n; ++i) {
                const i32 q = word(row[i] + magic) - base;
                out[wide + i] = static_cast<i8>(q);
                out[i] = static_cast<i8>((q + 128) >> 8);
            }
        }
        for (i32 d = 0; d < count; ++d)
            for (i64 i = n; i < wide; ++i) out[d * wide + i] = 0;
    }
    return any;
}

// y = fp32(total + bias), −0 written as +0.
int rpl_finish64(const double* total, i64 rows, i64 n, const double* bias, float* y) {
    int any = 0;
    for (i64 r = 0; r < rows; ++r) {
        const double* t = total + r * n;
        float* out = y + r * n;
        if (bias)
            for (i64 i = 0; i < n; ++i) out[i] = static_cast<float>(t[i] + bias[i]) + 0.0f;
        else
            for (i64 i = 0; i < n; ++i) out[i] = static_cast<float>(t[i]) + 0.0f;
        any |= lost(out, n);
    }
    return any;
}

// y = fp32(Σ product_j·2^power_j · unit_x · unit_w + bias); products int32 [rows'][ld], `many` of them, `stride` apart.
int rpl_finish32(const i32* products, i64 stride, i32 many, const double* powers, i64 rows, i64 n, i64 ld,
                 const double* unit_x, const double* unit_w, const double* bias, float* y) {
    int any = 0;
    for (i64 r = 0; r < rows; ++r) {
        const i32* p = products + r * ld;
        const double ux = unit_x[r];
        float* out = y + r * n;
        if (many == 5) {
            for (i64 i = 0; i < n; ++i) {
                double t = p[i] * powers[0] + p[stride + i] * powers[1];
                t += p[2 * stride + i] * powers[2];
                t += p[3 * stride + i] * powers[3];
                t += p[4 * stride + i] * powers[4];
                out[i] = static_cast<float>(t * ux * unit_w[i] + (bias ? bias[i] : 0.0)) + 0.0f;
            }
        } else if (many == 3) {
            for (i64 i = 0; i < n; ++i) {
                double t = p[i] * powers[0] + p[stride + i] * powers[1];
                t += p[2 * stride + i] * powers[2];
                out[i] = static_cast<float>(t * ux * unit_w[i] + (bias ? bias[i] : 0.0)) + 0.0f;
            }
        } else {
            for (i64 i = 0; i < n; ++i) {
                double t = 0.0;
                for (i32 j = 0; j < many; ++j) t += p[j * stride + i] * powers[j];
                out[i] = static_cast<float>(t * ux * unit_w[i] + (bias ? bias[i] : 0.0)) + 0.0f;
            }
        }
        any |= lost(out, n);
    }
    return any;
}

// Layer norm (shift given or neither) and, with `rms`, RMS norm.
int rpl_norm(const float* x, i64 rows, i64 d, i32 bits, int rms, double inv_d, double inv_d2, float eps,
             const float* gain, const float* shift, float* y, u8* bad) {
    int any = 0;
    for (i64 r = 0; r < rows; ++r) {
        const float* row = x + r * d;
        float* out = y + r * d;
        const i32 found = top_of(row, d), e = clamped(found);
        bad[r] = found > EXPONENT_MAX;
        any |= bad[r];
        const i32 base = magic_of(e, bits);
        const float magic = single(base);
        i64 first = 0, second = 0;
        for (i64 i = 0; i < d; ++i) {
            const i64 q = word(row[i] + magic) - base;
            first += q;
            second += q * q;
        }
        const double unit = power(e - 126 - bits);
        float mean = 0.0f, variance;
        if (rms) {
            variance = static_cast<float>(static_cast<double>(second) * (unit * unit) * inv_d);
        } else {
            mean = static_cast<float>(static_cast<double>(first) * unit * inv_d);
            const i64 spread = d * second - first * first;
            variance = static_cast<float>(static_cast<double>(spread) * (unit * unit) * inv_d2);
        }
        const float root = rsqrt_of(variance + eps);
        if (rms && gain)
            for (i64 i = 0; i < d; ++i) out[i] = (row[i] * root) * gain[i] + 0.0f;
        else if (rms)
            for (i64 i = 0; i < d; ++i) out[i] = row[i] * root + 0.0f;
        else if (gain)
            for (i64 i = 0; i < d; ++i) out[i] = (((row[i] - mean) * root) * gain[i] + shift[i]) + 0.0f;
        else
            for (i64 i = 0; i < d; ++i) out[i] = (row[i] - mean) * root + 0.0f;
        any |= lost(out, d);
    }
    return any;
}

int rpl_gelu_tanh(const float* x, i64 n, float* y) {
    const float k0 = single(static_cast<i32>(0xc0135761u)), k1 = single(static_cast<i32>(0xbdd2d3e8u));
    for (i64 i = 0; i < n; ++i) {
        const float w = (x[i] * x[i] * k1 + k0) * x[i];
        y[i] = x[i] / (exp2_of(higher(lower(w, CLAMP), -CLAMP), 0) + 1.0f) + 0.0f;
    }
    return lost(y, n);
}

int rpl_silu(const float* x, i64 n, float* y) {
    const float l = -single(0x3fb8aa3b);
    for (i64 i = 0; i < n; ++i)
        y[i] = x[i] / (exp2_of(higher(lower(x[i] * l, CLAMP), -CLAMP), 0) + 1.0f) + 0.0f;
    return lost(y, n);
}

int rpl_gelu_erf(const float* x, i64 n, float* y) {
    const float root = single(0x3f3504f3), p0 = single(0x3ea7ba05), l = -single(0x3fb8aa3b);
    const float a1 = single(0x3e827906), a2 = single(static_cast<i32>(0xbe91a98eu)), a3 = single(0x3fb5f0e3),
                a4 = single(static_cast<i32>(0xbfba00e3u)), a5 = single(0x3f87dc22);
    for (i64 i = 0; i < n; ++i) {
        const float size = single(word(x[i]) & SIZE);
        const float z = size * root;
        const float t = 1.0f / (z * p0 + 1.0f);
        const float p = ((((t * a5 + a4) * t + a3) * t + a2) * t + a1) * t;
        const float tail = ((p * exp2_of(higher(z * z * l, -CLAMP), 0)) * size) * 0.5f;
        y[i] = (higher(x[i], 0.0f) - tail) + 0.0f;
    }
    return lost(y, n);
}

// t = fp32(s·scale). Returns 1 if a logit is not finite.
int rpl_scale(const double* s, i64 n, double scale, float* t) {
    for (i64 i = 0; i < n; ++i) t[i] = static_cast<float>(s[i] * scale);
    return lost(t, n);
}

// Attention weights of `heads`·rows rows: t [heads][share][rows][keys] (consumed), shut [rows][keys] or null, field: e << 23
// of each key's value [heads][keys], largest: E << 23 [heads][rows or 1]; w fp64 like t, total fp64 [heads][share][rows].
void rpl_weights(float* t, i64 heads, i64 share, i64 rows, i64 keys, const u8* shut, const i32* field,
                 const i32* largest, i64 largest_rows, double* w, double* total) {
    for (i64 h = 0; h < heads; ++h)
        for (i64 s = 0; s < share; ++s)
            for (i64 r = 0; r < rows; ++r) {
                const i64 at = (h * share + s) * rows + r;
                float* row = t + at * keys;
                double* out = w + at * keys;
                const u8* no = shut ? shut + r * keys : nullptr;
                const i32* exponent = field + h * keys;
                const float down = single(0x7F000000 - largest[h * largest_rows + (largest_rows > 1 ? r : 0)]);
                float top = -__builtin_inff();
                if (no)
                    for (i64 j = 0; j < keys; ++j) row[j] = no[j] ? -__builtin_inff() : row[j];
#pragma omp simd reduction(max : top)
                for (i64 j = 0; j < keys; ++j) top = row[j] > top ? row[j] : top;
                i64 sum = 0;
                for (i64 j = 0; j < keys; ++j) {
                    const float u = exp2_of(higher(row[j] - top, -CLAMP), 22);
                    // below 2^23 this rounds to an integer, half to even
                    const float kept = no && no[j] ? 0.0f : u;
                    const float whole = (kept + 8388608.0f) - 8388608.0f;
                    sum += static_cast<i32>(whole);
                    const float scaled = kept * single(exponent[j]) * down;
                    out[j] = static_cast<double>((scaled + 8388608.0f) - 8388608.0f);
                }
                total[at] = static_cast<double>(sum);
            }
}

}  // extern "C"
