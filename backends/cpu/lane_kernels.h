/* What kernels_lane_table.c collects from kernels_lanes.c. */
#ifndef QE_BACKENDS_CPU_LANE_KERNELS_H
#define QE_BACKENDS_CPU_LANE_KERNELS_H

#include "backends/cpu/kernels_isa.h"
#include "backends/cpu/lanes.h"

void CPU_NAME(lane_gather)(const uint8_t *const *image, int32_t height, int32_t width, int32_t channels, uint8_t *to,
                           int64_t row, int64_t pixel, int64_t vector);
void CPU_NAME(lane_sum_pool)(const cpu_conv_task *task);
void CPU_NAME(lane_load)(const cpu_conv_task *task);
void CPU_NAME(lane_max_pool)(const cpu_conv_task *task, uint8_t *to, int64_t to_line, int64_t to_site,
                             int64_t to_vector);
void CPU_NAME(lane_subsample)(const cpu_conv_task *task, const int32_t *pad_channels, uint8_t *to, int64_t to_line,
                              int64_t to_site, int64_t to_vector);
void CPU_NAME(lane_loss)(const int32_t *logits, int32_t classes, const int32_t *labels, int32_t *loss, int32_t *hit);

#endif
