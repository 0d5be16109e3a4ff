/* The kernels of one instruction set, collected. */
#include "backends/cpu/kernels_isa.h"

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

static const cpu_tile_kernel tile_table[QE_OPS] = {
#define X(op) [QE_OP_##op] = CPU_NAME(op##_tile),
    CPU_TILE_OPS(X)
#undef X
};

static const cpu_rows_kernel rows_table[QE_OPS] = {
#define X(op) [QE_OP_##op] = CPU_NAME(op##_rows),
    CPU_ROWS_OPS(X)
#undef X
};

const cpu_kernels CPU_NAME(kernels) = {
    .name = TEXT(CPU_ISA),
    .tile = tile_table,
    .rows = rows_table,
    .int_conv = CPU_NAME(int_conv),
    .outer = &CPU_NAME(outer_kernels),
    .dots = &CPU_NAME(dots_kernels),
    .channel_sums = CPU_NAME(channel_sums),
    .largest = CPU_NAME(largest),
    .tanh = CPU_NAME(tanh),
    .tanh_grad = CPU_NAME(tanh_grad),
    .lane_kernels = &CPU_NAME(lane_kernels),
};
