/* What a device can do, and the text that lowers it for tests. */
#include "backends/opencl/opencl.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Queries of vendor extensions, from their specifications. */
enum { COMPUTE_CAPABILITY_MAJOR_NV = 0x4000, COMPUTE_CAPABILITY_MINOR_NV = 0x4001 };

enum {
  GROUP_MOST = 256,
  LOCAL_AN_ITEM = 192, /* bytes of local memory that kernels may use a work-item of a plain work-group */
  MAX_AXES = 8
};

#define QUERY(found, what, value) ((void)clGetDeviceInfo((found)->id, what, sizeof(value), &(value), NULL))

/* ---- reading ---- */

static size_t query_bytes(const opencl_found *found, cl_device_info what) {
  cl_ulong value = 0;
  QUERY(found, what, value);
  return value > SIZE_MAX ? SIZE_MAX : (size_t)value;
}

/* The largest power of two that is at most GROUP_MOST and what the device takes, with LOCAL_AN_ITEM of local memory. */
static int32_t plain_group(const portable_limits *limits) {
  size_t group = 1, most = limits->group_most, local = limits->local_bytes / LOCAL_AN_ITEM;
  while (group < GROUP_MOST && group * 2 <= most && group * 2 <= local) group *= 2;
  return (int32_t)group;
}

static void read_group(const opencl_found *found, portable_limits *limits) {
  size_t most = 1, axis[MAX_AXES] = {0};
  QUERY(found, CL_DEVICE_MAX_WORK_GROUP_SIZE, most);
  QUERY(found, CL_DEVICE_MAX_WORK_ITEM_SIZES, axis);
  if (axis[0] && axis[0] < most) most = axis[0];
  limits->group_most = most;
}

static opencl_dot read_dot(const opencl_found *found) {
  cl_uint major = 0, minor = 0;
  if (opencl_has_extension(found->id, "cl_nv_device_attribute_query")) {
    QUERY(found, COMPUTE_CAPABILITY_MAJOR_NV, major);
    QUERY(found, COMPUTE_CAPABILITY_MINOR_NV, minor);
    return major * 10 + minor >= 61 ? OPENCL_DOT_PTX : OPENCL_DOT_NONE;
  }
  if (opencl_has_extension(found->id, "cl_khr_integer_dot_product")) return OPENCL_DOT_KHR;
  if (opencl_has_extension(found->id, "cl_amd_device_attribute_query")) return OPENCL_DOT_AMD;
  return OPENCL_DOT_NONE;
}

void opencl_traits_read(const opencl_found *found, opencl_traits *traits) {
  portable_limits *limits = &traits->limits;
  cl_uint units = 1;
  cl_device_fp_config single = 0;
  read_group(found, limits);
  limits->local_bytes = query_bytes(found, CL_DEVICE_LOCAL_MEM_SIZE);
  limits->group = plain_group(limits);
  limits->memory_bytes = query_bytes(found, CL_DEVICE_GLOBAL_MEM_SIZE);
  limits->allocation_most = query_bytes(found, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
  QUERY(found, CL_DEVICE_MAX_COMPUTE_UNITS, units);
  limits->units = units ? (int32_t)units : 1;
  limits->processor = (found->type & CL_DEVICE_TYPE_CPU) != 0;
  QUERY(found, CL_DEVICE_SINGLE_FP_CONFIG, single);
  traits->divide = (single & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
  traits->dot = read_dot(found);
  limits->dot = traits->dot != OPENCL_DOT_NONE;
  traits->blas = true;
}

/* ---- lowering ---- */

typedef enum key_type { KEY_INT, KEY_SIZE, KEY_BOOL } key_type;

static const struct key {
  const char *name;
  size_t offset;
  key_type type;
} keys[] = {
    {"group", offsetof(opencl_traits, limits.group_most), KEY_SIZE}, /* work-items of any work-group */
    {"local", offsetof(opencl_traits, limits.local_bytes), KEY_SIZE},
    {"memory", offsetof(opencl_traits, limits.memory_bytes), KEY_SIZE},
    {"allocation", offsetof(opencl_traits, limits.allocation_most), KEY_SIZE}, /* of one buffer */
    {"units", offsetof(opencl_traits, limits.units), KEY_INT},
    {"dot", offsetof(opencl_traits, limits.dot), KEY_BOOL},
    {"divide", offsetof(opencl_traits, divide), KEY_BOOL}, /* 0: division is not correctly rounded */
    {"blas", offsetof(opencl_traits, blas), KEY_BOOL},     /* 0: without CLBlast */
};
enum { KEYS = sizeof keys / sizeof *keys };

static size_t get_value(const opencl_traits *traits, const struct key *key) {
  const char *at = (const char *)traits + key->offset;
  if (key->type == KEY_SIZE) return *(const size_t *)(const void *)at;
  return key->type == KEY_INT ? (size_t) * (const int32_t *)(const void *)at : *(const bool *)(const void *)at;
}

static void set_value(opencl_traits *traits, const struct key *key, size_t value) {
  void *at = (char *)traits + key->offset;
  if (key->type == KEY_SIZE) *(size_t *)at = value;
  if (key->type == KEY_INT) *(int32_t *)at = (int32_t)value;
  if (key->type == KEY_BOOL) *(bool *)at = value != 0;
}

/* One "key=value" of `length` bytes. */
static qe_status lower_one(opencl_traits *traits, const char *item, size_t length) {
  for (int k = 0; k < KEYS; k++) {
    size_t name = strlen(keys[k].name);
    if (name >= length || strncmp(item, keys[k].name, name) != 0 || item[name] != '=') continue;
    char *end;
    size_t least = keys[k].type != KEY_BOOL, most = get_value(traits, &keys[k]);
    errno = 0;
    unsigned long long value = strtoull(item + name + 1, &end, 10);
    if (item[name + 1] < '0' || item[name + 1] > '9' || end != item + length || errno || value < least || value > most)
      return qe_fail(QE_USAGE, "QEVO_OPENCL_LIMITS: '%.*s' must be in %zu...%zu, which the device has", (int)length,
                     item, least, most);
    set_value(traits, &keys[k], (size_t)value);
    return QE_OK;
  }
  return qe_fail(QE_USAGE,
                 "QEVO_OPENCL_LIMITS: '%.*s' is none of group, local, memory, allocation, units, dot, divide, "
                 "blas with '=' and a number",
                 (int)length, item);
}

qe_status opencl_traits_lower(opencl_traits *traits, const char *text) {
  if (!text || !*text) return QE_OK;
  for (const char *at = text;; at++) {
    size_t length = strcspn(at, ",");
    QE_TRY(lower_one(traits, at, length));
    at += length;
    if (!*at) break;
  }
  portable_limits *limits = &traits->limits;
  limits->group = plain_group(limits);
  if (limits->allocation_most > limits->memory_bytes) limits->allocation_most = limits->memory_bytes;
  if (!limits->dot) traits->dot = OPENCL_DOT_NONE;
  return QE_OK;
}
