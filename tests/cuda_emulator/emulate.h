/* The device environment in which g++ compiles kernels: what CUDA C++ has beside C++, on the host. Included in front of
 * a .cu file. Built-in functions are those that kernels of this project use, as the CUDA C++ Programming Guide and the
 * CUDA Math API describe them. */
#ifndef EMULATOR_EMULATE_H
#define EMULATOR_EMULATE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <type_traits>
#include <utility>

#include "tests/cuda_emulator/warp_emulated.h"

#define QK_EMULATED 1

/* ---- declarations ---- */

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
/* One block runs at a time, so that static memory serves. The section is filled with garbage before each block (g++
 * puts the variables of templates elsewhere: those keep what the last block left). */
#define __shared__ static __attribute__((section("emulated_shared")))
#define QK_DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(emulated_dynamic_shared())

void *emulated_dynamic_shared();

/* ---- vector types ---- */

#define EMULATED_VECTOR(type, name)                                                                                    \
  struct name##1 {                                                                                                     \
    type x;                                                                                                            \
  };                                                                                                                   \
  struct alignas(2 * sizeof(type)) name##2 {                                                                           \
    type x, y;                                                                                                         \
  };                                                                                                                   \
  struct name##3 {                                                                                                     \
    type x, y, z;                                                                                                      \
  };                                                                                                                   \
  struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 {                                              \
    type x, y, z, w;                                                                                                   \
  };                                                                                                                   \
  static inline name##2 make_##name##2(type x, type y) {                                                               \
    return {x, y};                                                                                                     \
  }                                                                                                                    \
  static inline name##3 make_##name##3(type x, type y, type z) {                                                       \
    return {x, y, z};                                                                                                  \
  }                                                                                                                    \
  static inline name##4 make_##name##4(type x, type y, type z, type w) {                                               \
    return {x, y, z, w};                                                                                               \
  }
EMULATED_VECTOR(signed char, char)
EMULATED_VECTOR(unsigned char, uchar)
EMULATED_VECTOR(short, short)
EMULATED_VECTOR(unsigned short, ushort)
EMULATED_VECTOR(int, int)
EMULATED_VECTOR(unsigned, uint)
EMULATED_VECTOR(long long, longlong)
EMULATED_VECTOR(unsigned long long, ulonglong)
EMULATED_VECTOR(float, float)
#undef EMULATED_VECTOR

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned of_x = 1, unsigned of_y = 1, unsigned of_z = 1) : x(of_x), y(of_y), z(of_z) {}
};

/* ---- where a thread is ---- */

extern const uint3 *emulated_thread_index;
extern uint3 emulated_block_index;
extern dim3 emulated_block_size, emulated_grid_size;
#define threadIdx (*emulated_thread_index)
#define blockIdx emulated_block_index
#define blockDim emulated_block_size
#define gridDim emulated_grid_size
#define warpSize 32

/* ---- barriers and warps ---- */

/* All threads of the block must reach the same barrier of the source. */
void emulated_barrier(const char *file, int line);
/* The same; returns how many threads had `predicate` true. */
int emulated_barrier_count(const char *file, int line, int predicate);
#define __syncthreads() emulated_barrier(__FILE__, __LINE__)
#define __syncthreads_count(predicate) emulated_barrier_count(__FILE__, __LINE__, predicate)
#define __syncthreads_or(predicate) (emulated_barrier_count(__FILE__, __LINE__, predicate) != 0)
#define __syncthreads_and(predicate) (emulated_barrier_count(__FILE__, __LINE__, !(predicate)) == 0)

/* emulate_warp among the lanes in the mask, which must be the same for all of them; lane[] of the others is null. */
void emulate_warp_masked(unsigned mask, void (*compute)(void *const lane[32]), void *mine);
[[noreturn]] void emulated_fail(const char *what);

static inline void emulated_nothing(void *const *) {}

static inline void __syncwarp(unsigned mask = 0xffffffffu) {
  int nothing = 0;
  emulate_warp_masked(mask, emulated_nothing, &nothing);
}

template <class T> struct emulated_shuffle {
  T value, result;
  int source; /* lane; this lane's own value where the source lies outside its segment */

  static void compute(void *const lane[32]) {
    for (int i = 0; i < 32; i++) {
      if (!lane[i]) continue;
      auto *mine = static_cast<emulated_shuffle *>(lane[i]);
      if (!lane[mine->source]) emulated_fail("a shuffle reads from a lane that is not in its mask");
      mine->result = static_cast<emulated_shuffle *>(lane[mine->source])->value;
    }
  }

  static T run(unsigned mask, T value, int source) {
    emulated_shuffle mine{value, value, source};
    emulate_warp_masked(mask, compute, &mine);
    return mine.result;
  }
};

unsigned emulated_lane();

template <class T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  int lane = static_cast<int>(emulated_lane());
  return emulated_shuffle<T>::run(mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}

template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = static_cast<int>(emulated_lane()), first = lane & ~(width - 1), source = lane - static_cast<int>(delta);
  return emulated_shuffle<T>::run(mask, value, source < first ? lane : source);
}

template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = static_cast<int>(emulated_lane()), last = lane | (width - 1), source = lane + static_cast<int>(delta);
  return emulated_shuffle<T>::run(mask, value, source > last ? lane : source);
}

template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  int lane = static_cast<int>(emulated_lane()), last = lane | (width - 1), source = lane ^ with;
  return emulated_shuffle<T>::run(mask, value, source > last ? lane : source);
}

template <class T, class F> struct emulated_reduction {
  T value, result;

  static void compute(void *const lane[32]) {
    T sum{};
    bool first = true;
    for (int i = 0; i < 32; i++) {
      if (!lane[i]) continue;
      T value = static_cast<emulated_reduction *>(lane[i])->value;
      sum = first ? value : F::of(sum, value);
      first = false;
    }
    for (int i = 0; i < 32; i++)
      if (lane[i]) static_cast<emulated_reduction *>(lane[i])->result = sum;
  }

  static T run(unsigned mask, T value) {
    emulated_reduction mine{value, value};
    emulate_warp_masked(mask, compute, &mine);
    return mine.result;
  }
};

/* redux.sync: sums wrap around. */
#define EMULATED_REDUCE(name, expression)                                                                              \
  template <class T> struct emulated_##name {                                                                          \
    static T of(T a, T b) { return static_cast<T>(expression); }                                                       \
  };                                                                                                                   \
  static inline int __reduce_##name##_sync(unsigned mask, int value) {                                                 \
    return emulated_reduction<int, emulated_##name<int>>::run(mask, value);                                            \
  }                                                                                                                    \
  static inline unsigned __reduce_##name##_sync(unsigned mask, unsigned value) {                                       \
    return emulated_reduction<unsigned, emulated_##name<unsigned>>::run(mask, value);                                  \
  }
EMULATED_REDUCE(add, static_cast<unsigned>(a) + static_cast<unsigned>(b))
EMULATED_REDUCE(min, a < b ? a : b)
EMULATED_REDUCE(max, a > b ? a : b)
EMULATED_REDUCE(and, a &b)
EMULATED_REDUCE(or, a | b)
EMULATED_REDUCE(xor, a ^ b)
#undef EMULATED_REDUCE

static inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return __reduce_or_sync(mask, predicate ? 1u << emulated_lane() : 0u);
}

static inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}

static inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

/* ---- atomics: one host thread runs all ---- */

template <class T> using emulated_plain = typename std::remove_volatile<T>::type;

#define EMULATED_ATOMIC(name, expression)                                                                              \
  template <class T> static inline emulated_plain<T> name(T *at, emulated_plain<T> value) {                            \
    emulated_plain<T> old = *at;                                                                                       \
    *at = static_cast<emulated_plain<T>>(expression);                                                                  \
    return old;                                                                                                        \
  }
EMULATED_ATOMIC(atomicMax, old > value ? old : value)
EMULATED_ATOMIC(atomicMin, old < value ? old : value)
EMULATED_ATOMIC(atomicAnd, old &value)
EMULATED_ATOMIC(atomicOr, old | value)
EMULATED_ATOMIC(atomicXor, old ^ value)
EMULATED_ATOMIC(atomicExch, value)
#undef EMULATED_ATOMIC

/* Sums of integers wrap around. */
template <class T> static inline emulated_plain<T> atomicAdd(T *at, emulated_plain<T> value) {
  emulated_plain<T> old = *at;
  if constexpr (std::is_integral<T>::value) {
    using wide = typename std::make_unsigned<emulated_plain<T>>::type;
    *at = static_cast<emulated_plain<T>>(static_cast<wide>(old) + static_cast<wide>(value));
  } else {
    *at = old + value;
  }
  return old;
}

template <class T> static inline emulated_plain<T> atomicSub(T *at, emulated_plain<T> value) {
  using wide = typename std::make_unsigned<emulated_plain<T>>::type;
  return atomicAdd(at, static_cast<emulated_plain<T>>(wide{0} - static_cast<wide>(value)));
}

template <class T>
static inline emulated_plain<T> atomicCAS(T *at, emulated_plain<T> expected, emulated_plain<T> value) {
  emulated_plain<T> old = *at;
  if (old == expected) *at = value;
  return old;
}

#include "tests/cuda_emulator/intrinsics.h"

/* ---- the list of kernels ---- */

struct emulated_kernel {
  const char *name;
  int arguments;
  const size_t *sizes; /* bytes of each argument */
  void (*call)(void *const *arguments);
  emulated_kernel *next;
  size_t shared_first, shared_end; /* part of the section emulated_shared that the kernel is known to write */
  bool shared_known;
  int dynamic_most; /* dynamic shared memory that it may use: cuFuncSetAttribute */
};

void emulated_register(emulated_kernel *kernel);

template <auto function> struct emulated_entry;

template <class... A, void (*function)(A...)> struct emulated_entry<function> {
  static constexpr size_t sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};

  template <size_t... I> static void unpack(void *const *arguments, std::index_sequence<I...>) {
    function(*static_cast<A *>(arguments[I])...);
  }

  static void call(void *const *arguments) { unpack(arguments, std::index_sequence_for<A...>()); }

  explicit emulated_entry(const char *name) {
    static emulated_kernel kernel = {name, sizeof...(A), sizes, call, nullptr, 0, 0, false, 48 << 10};
    emulated_register(&kernel);
  }
};

/* Makes a __global__ function known by its name to cuModuleGetFunction. */
#define EMULATED_KERNEL(name) static const emulated_entry<name> emulated_entry_of_##name(#name);

#endif
