/* One image at a time: its positions lie in the lanes, in rows with their ring, so that a convolution of stride 1 reads
 * shifted vectors of a plane. What windows of other strides need is copied out first; the ends of the network, where
 * maps are single pixels, go as chunks do, with the image in lane 0. */
#include "backends/cpu/network.h"
#include "core/base/alloc.h"

#include <string.h>

static int32_t larger(int32_t a, int32_t b) {
  return a > b ? a : b;
}

/* The map that a stage writes, the first of two; CPU_NONE for logits. */
static int32_t output_map(const cpu_stage *stage) {
  return stage->output[0] != CPU_NONE ? stage->output[0] : stage->output[1];
}

static bool in_planes(const cpu_network *plan, int32_t map) {
  return map != CPU_NONE && plan->map[map].planes;
}

/* ---- planning ---- */

static bool is_pixel(const cpu_lane_map *map) {
  return map->height == 1 && map->width == 1;
}

/* Maps whose values meet lie the same way, and what reads planes writes planes; pooling to a pixel is the exception. */
static const char *refuse_stage(const cpu_network *plan, const cpu_stage *stage) {
  const int32_t met[] = {stage->output[0], stage->output[1], stage->skip};
  bool to = in_planes(plan, output_map(stage));
  for (size_t i = 0; i < sizeof met / sizeof *met; i++)
    if (met[i] != CPU_NONE && in_planes(plan, met[i]) != to) return "maps in planes and in lanes meet";
  for (int k = 0; k < 2; k++) {
    if (stage->from[k].input == CPU_NONE) continue;
    bool from = in_planes(plan, stage->from[k].input);
    if (stage->kind == QE_STAGE_SUM_POOL && from) return to ? "a sum pool of several windows" : NULL;
    if (from != to) return "a map in planes is made of one in lanes, or the other way round";
  }
  return NULL;
}

/* A linear layer on a flattened map reads it in lanes; so does what else it reads. */
static void choose_maps(cpu_network *plan) {
  for (size_t m = 0; m < plan->maps; m++) plan->map[m].planes = !is_pixel(&plan->map[m]);
  for (size_t s = 0; s < plan->stages; s++) {
    const cpu_stage *stage = &plan->stage[s];
    int32_t to = output_map(stage);
    bool pixel = to == CPU_NONE || is_pixel(&plan->map[to]);
    for (int k = 0; k < 2; k++)
      if (stage->kind == QE_STAGE_CONV && pixel && stage->from[k].input != CPU_NONE)
        plan->map[stage->from[k].input].planes = false;
  }
}

/* Maps of a stage whose positions correspond have one pitch. */
static bool join(cpu_network *plan, int32_t a, int32_t b) {
  if (a == CPU_NONE || b == CPU_NONE || !plan->map[a].planes || !plan->map[b].planes) return false;
  int32_t pitch = larger(plan->map[a].pitch, plan->map[b].pitch);
  bool changed = plan->map[a].pitch != pitch || plan->map[b].pitch != pitch;
  plan->map[a].pitch = plan->map[b].pitch = pitch;
  return changed;
}

static bool unit_stride(const cpu_producer *from) {
  return from->shape.window.stride[0] == 1 && from->shape.window.stride[1] == 1;
}

static void choose_pitches(cpu_network *plan) {
  for (size_t m = 0; m < plan->maps; m++)
    plan->map[m].pitch = plan->map[m].width + plan->map[m].ring[1] + plan->map[m].ring[3];
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t s = 0; s < plan->stages; s++) {
      const cpu_stage *stage = &plan->stage[s];
      if (stage->requant == CPU_NONE) continue;
      int32_t to = output_map(stage);
      changed |= join(plan, stage->output[0], stage->output[1]);
      changed |= join(plan, stage->skip, to);
      for (int k = 0; k < 2; k++)
        if (stage->from[k].layer != CPU_NONE && unit_stride(&stage->from[k]) && stage->kind != QE_STAGE_SUM_POOL)
          changed |= join(plan, stage->from[k].input, to);
    }
  }
}

/* Windows of other strides are copied out; there is room for one producer's of a stage. */
static qe_status choose_columns(cpu_network *plan, cpu_stage *stage) {
  if (stage->kind != QE_STAGE_CONV || !plan->map[stage->from[0].input].planes) return QE_OK;
  int64_t lanes = plan->kernels->lanes, positions = cpu_planes_positions(plan, stage);
  int64_t plane = (positions + lanes - 1) / lanes * lanes * 2;
  for (int k = 0; k < 2; k++) {
    cpu_producer *from = &stage->from[k];
    if (from->layer == CPU_NONE || unit_stride(from)) continue;
    if (stage->from[0].columns)
      return qe_fail(QE_REFUSED, "layer %s: two windows that are copied out", plan->network->layer[from->layer].name);
    int64_t taps = (int64_t)from->shape.window.kernel[0] * from->shape.window.kernel[1];
    size_t bytes = (size_t)(plane * taps * ((from->shape.inputs + 1) / 2));
    from->columns = true;
    if (bytes > plan->columns_bytes) plan->columns_bytes = bytes;
  }
  return QE_OK;
}

qe_status cpu_planes_choose(cpu_network *plan) {
  choose_maps(plan);
  for (size_t s = 0; s < plan->stages; s++) {
    const cpu_stage *stage = &plan->stage[s];
    const char *why = refuse_stage(plan, stage);
    if (why) return qe_fail(QE_REFUSED, "layer %s: %s", plan->network->layer[stage->from[0].layer].name, why);
  }
  choose_pitches(plan);
  for (size_t s = 0; s < plan->stages; s++) QE_TRY(choose_columns(plan, &plan->stage[s]));
  return QE_OK;
}

int32_t cpu_planes_positions(const cpu_network *plan, const cpu_stage *stage) {
  int32_t to = output_map(stage);
  const cpu_conv_shape *shape = &stage->from[0].shape;
  if (!in_planes(plan, to)) return shape->out_height * shape->out_width;
  return (shape->out_height - 1) * plan->map[to].pitch + shape->out_width;
}

/* ---- running ---- */

void cpu_planes_clear(const cpu_lane_map *map, uint8_t *origin) {
  size_t beside = (size_t)(map->pitch - map->width) * 2;
  int64_t last = (int64_t)(map->height - 1) * map->row + 2 * (int64_t)map->width;
  size_t behind = (size_t)(map->vector - (int64_t)map->origin - last);
  for (int32_t v = 0; v < map->vectors; v++) {
    uint8_t *plane = origin + v * map->vector;
    for (int32_t row = 0; row + 1 < map->height; row++)
      memset(plane + row * map->row + 2 * (int64_t)map->width, map->zero, beside);
    memset(plane + last, map->zero, behind);
  }
}

void cpu_planes_gather(const uint8_t *image, const cpu_lane_map *to, uint8_t *origin) {
  for (int32_t c = 0; c < to->channels; c++) {
    uint8_t *plane = origin + c / 2 * to->vector + c % 2;
    for (int32_t row = 0; row < to->height; row++) {
      const uint8_t *from = image + ((int64_t)row * to->width) * to->channels + c;
      for (int32_t x = 0; x < to->width; x++) plane[row * to->row + 2 * x] = from[x * to->channels];
    }
  }
}

/* Pairs of bytes, `stride` pairs apart. Stride 2 reads whole words, of which the last one ends in the row's ring or
 * behind it: that loop becomes vector instructions. */
static void copy_row(const uint8_t *from, int32_t stride, int32_t count, uint8_t *to) {
  const bool little_endian = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
  for (int32_t x = 0; stride == 2 && x < count; x++) {
    uint32_t word;
    memcpy(&word, from + 4 * (int64_t)x, sizeof word);
    uint16_t pair = (uint16_t)(little_endian ? word & 0xffff : word >> 16);
    memcpy(to + 2 * (int64_t)x, &pair, sizeof pair);
  }
  for (int32_t x = 0; stride != 2 && x < count; x++) memcpy(to + 2 * (int64_t)x, from + 2 * (int64_t)x * stride, 2);
}

/* One channel, where the channels before it do not fill whole pairs. */
static void subsample_channel(const cpu_lane_map *from, const uint8_t *in, const int32_t *stride, int32_t source,
                              const cpu_lane_map *to, uint8_t *target) {
  bool inside = source >= 0 && source < from->channels;
  const uint8_t *plane = in + (inside ? source / 2 * from->vector + source % 2 : 0);
  for (int32_t row = 0; row < to->height; row++)
    for (int32_t x = 0; x < to->width; x++)
      target[row * to->row + 2 * x] =
          inside ? plane[row * stride[0] * from->row + 2 * x * stride[1]] : (uint8_t)to->zero;
}

static void subsample_pair(const cpu_lane_map *from, const uint8_t *in, const int32_t *stride, int32_t source,
                           const cpu_lane_map *to, uint8_t *target) {
  bool inside = source >= 0 && source < from->vectors;
  for (int32_t row = 0; row < to->height; row++)
    if (inside)
      copy_row(in + source * from->vector + row * stride[0] * from->row, stride[1], to->width, target + row * to->row);
    else
      memset(target + row * to->row, to->zero, 2 * (size_t)to->width);
}

void cpu_planes_subsample(const cpu_lane_map *from, const uint8_t *in, const qe_attrs *attrs, const cpu_lane_map *to,
                          uint8_t *out) {
  const int32_t *stride = attrs->window.stride, before = attrs->pad_channels[0];
  for (int32_t v = 0; before % 2 == 0 && v < to->vectors; v++)
    subsample_pair(from, in, stride, v - before / 2, to, out + v * to->vector);
  for (int32_t c = 0; before % 2 != 0 && c < to->channels; c++)
    subsample_channel(from, in, stride, c - before, to, out + c / 2 * to->vector + c % 2);
}

/* First stored value of the window whose first tap is inside the ring. */
static const uint8_t *window_at(const cpu_lane_map *from, const uint8_t *in, const cpu_conv_shape *shape, int32_t row,
                                int32_t x, int32_t channel) {
  const qe_window *window = &shape->window;
  int64_t down = (int64_t)row * window->stride[0] - window->pad[0];
  int64_t right = (int64_t)x * window->stride[1] - window->pad[1];
  return in + channel / 2 * from->vector + channel % 2 + down * from->row + 2 * right;
}

void cpu_planes_max_pool(const cpu_lane_map *from, const uint8_t *in, const cpu_conv_shape *shape,
                         const cpu_lane_map *to, uint8_t *out) {
  for (int32_t c = 0; c < to->channels; c++)
    for (int32_t row = 0; row < to->height; row++)
      for (int32_t x = 0; x < to->width; x++) {
        const uint8_t *window = window_at(from, in, shape, row, x, c);
        uint8_t most = 0;
        for (int32_t kh = 0; kh < shape->window.kernel[0]; kh++)
          for (int32_t kw = 0; kw < shape->window.kernel[1]; kw++) {
            uint8_t value = window[kh * from->row + 2 * kw];
            most = value > most ? value : most;
          }
        out[c / 2 * to->vector + c % 2 + row * to->row + 2 * x] = most;
      }
}

void cpu_planes_sum_pool(const cpu_lane_map *from, const uint8_t *in, const cpu_conv_shape *shape, int32_t lanes,
                         int32_t *sums) {
  int32_t taps = shape->window.kernel[0] * shape->window.kernel[1];
  int64_t site = 0;
  for (int32_t row = 0; row < shape->out_height; row++)
    for (int32_t x = 0; x < shape->out_width; x++, site++)
      for (int32_t c = 0; c < from->channels; c++) {
        const uint8_t *window = window_at(from, in, shape, row, x, c);
        int32_t sum = -taps * from->zero;
        for (int32_t kh = 0; kh < shape->window.kernel[0]; kh++)
          for (int32_t kw = 0; kw < shape->window.kernel[1]; kw++) sum += window[kh * from->row + 2 * kw];
        int32_t *to = sums + (site * from->channels + c) * lanes;
        memset(to, 0, (size_t)lanes * sizeof *to);
        to[0] = sum;
      }
}

void cpu_planes_columns(const cpu_lane_map *from, const uint8_t *in, const cpu_conv_shape *shape, int32_t pitch,
                        int64_t plane, uint8_t *columns) {
  const qe_window *window = &shape->window;
  uint8_t *to = columns;
  for (int32_t kh = 0; kh < window->kernel[0]; kh++)
    for (int32_t kw = 0; kw < window->kernel[1]; kw++)
      for (int32_t v = 0; v < from->vectors; v++, to += plane)
        for (int32_t row = 0; row < shape->out_height; row++) {
          int64_t down = (int64_t)row * window->stride[0] - window->pad[0] + (int64_t)kh * window->dilation[0];
          int64_t right = (int64_t)kw * window->dilation[1] - window->pad[1];
          copy_row(in + v * from->vector + down * from->row + 2 * right, window->stride[1], shape->out_width,
                   to + (int64_t)row * pitch * 2);
        }
}
