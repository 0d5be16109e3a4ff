/* TensorBoard event files read back, by the formats' descriptions alone: framing, CRC-32C bit by bit, protobuf. */
#ifndef QE_TESTS_EVENTS_H
#define QE_TESTS_EVENTS_H

#include "core/base/file.h"
#include "tests/fixture.h"

enum { EVENT_SCALARS = 4096, EVENT_TAG = 64, EVENT_FILES = 512, EVENT_CELLS = 256 };

typedef struct event_scalar {
  char tag[EVENT_TAG];
  int64_t step;
  float value;
} event_scalar;

typedef struct event_histogram { /* the newest of all */
  char tag[EVENT_TAG];
  int64_t step;
  double low, high, count, sum, square_sum, edge[EVENT_CELLS], cell[EVENT_CELLS];
  size_t edges, cells;
} event_histogram;

typedef struct event_list {
  event_scalar scalar[EVENT_SCALARS];
  event_histogram histogram;
  size_t scalars, histograms, files, starts; /* starts: events that say from which step on older ones are void */
  int64_t start_step;
} event_list;

typedef struct event_bytes {
  const unsigned char *at, *end;
} event_bytes;

/* ---- framing ---- */

static inline uint32_t event_crc(const unsigned char *data, size_t bytes) {
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < bytes; i++)
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (((crc ^ (uint32_t)data[i] >> bit) & 1) ? 0x82f63b78u : 0);
  return crc ^ 0xffffffffu;
}

static inline uint64_t event_fixed(event_bytes *from, int bytes) {
  uint64_t value = 0;
  assert_true(from->end - from->at >= bytes);
  for (int i = 0; i < bytes; i++) value |= (uint64_t)from->at[i] << 8 * i;
  from->at += bytes;
  return value;
}

static inline void check_masked(const unsigned char *data, size_t bytes, uint64_t masked) {
  uint32_t rotated = (uint32_t)masked - 0xa282ead8u;
  assert_int_equal(rotated >> 17 | rotated << 15, event_crc(data, bytes));
}

/* ---- protobuf ---- */

static inline uint64_t event_varint(event_bytes *from) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    uint64_t byte = event_fixed(from, 1);
    assert_true(shift < 64);
    value |= (byte & 127) << shift;
    if (byte < 128) return value;
  }
}

/* One field: its number; the value of a number in *value, the bytes of others in *inner. False at the end. */
static inline bool event_field(event_bytes *from, int *field, uint64_t *value, event_bytes *inner) {
  *value = 0;
  *inner = (event_bytes){NULL, NULL};
  if (from->at == from->end) return false;
  uint64_t key = event_varint(from);
  *field = (int)(key >> 3);
  switch (key & 7) {
  case 0:
    *value = event_varint(from);
    break;
  case 1:
    *value = event_fixed(from, 8);
    break;
  case 2:
    *value = event_varint(from);
    assert_true(*value <= (uint64_t)(from->end - from->at));
    *inner = (event_bytes){from->at, from->at + *value};
    from->at += *value;
    break;
  case 5:
    *value = event_fixed(from, 4);
    break;
  default:
    fail_msg("no such wire type: %d", (int)(key & 7));
  }
  return true;
}

static inline double event_double(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline size_t event_doubles(event_bytes from, double *to) {
  size_t count = 0;
  while (from.at < from.end) {
    assert_true(count < EVENT_CELLS);
    to[count++] = event_double(event_fixed(&from, 8));
  }
  return count;
}

/* ---- messages ---- */

static inline void read_histogram(event_bytes from, event_histogram *to) {
  int field;
  uint64_t value = 0;
  event_bytes inner;
  double *const numbers[] = {NULL, &to->low, &to->high, &to->count, &to->sum, &to->square_sum};
  while (event_field(&from, &field, &value, &inner)) {
    assert_in_range(field, 1, 7);
    if (field <= 5) *numbers[field] = event_double(value);
    if (field == 6) to->edges = event_doubles(inner, to->edge);
    if (field == 7) to->cells = event_doubles(inner, to->cell);
  }
}

static inline void read_value(event_bytes from, int64_t step, event_list *list) {
  int field;
  uint64_t value = 0;
  uint32_t bits;
  event_bytes inner;
  event_scalar scalar = {.step = step};
  bool is_scalar = false, is_histogram = false;
  while (event_field(&from, &field, &value, &inner)) {
    if (field == 1)
      snprintf(scalar.tag, sizeof scalar.tag, "%.*s", (int)(inner.end - inner.at), (const char *)inner.at);
    if (field == 2) {
      bits = (uint32_t)value;
      memcpy(&scalar.value, &bits, sizeof bits);
      is_scalar = true;
    }
    if (field == 5) {
      read_histogram(inner, &list->histogram);
      is_histogram = true;
    }
  }
  assert_true(is_scalar != is_histogram && scalar.tag[0]);
  assert_true(list->scalars < EVENT_SCALARS);
  if (is_scalar) list->scalar[list->scalars++] = scalar;
  if (!is_histogram) return;
  memcpy(list->histogram.tag, scalar.tag, sizeof scalar.tag);
  list->histogram.step = step;
  list->histograms++;
}

static inline void read_event(event_bytes from, bool first, event_list *list) {
  int field;
  uint64_t value = 0;
  event_bytes inner, summary = {NULL, NULL};
  int64_t step = 0;
  bool timed = false, versioned = false, starts = false;
  while (event_field(&from, &field, &value, &inner)) {
    if (field == 1) timed = event_double(value) > 1.6e9;
    if (field == 2) step = (int64_t)value;
    if (field == 3) versioned = inner.end - inner.at == 13 && memcmp(inner.at, "brain.Event:2", 13) == 0;
    if (field == 5) summary = inner;
    if (field == 7) starts = event_field(&(event_bytes){inner.at, inner.end}, &field, &value, &inner) && value == 1;
  }
  assert_true(timed);
  assert_int_equal(versioned, first);
  if (starts) list->starts++;
  if (starts) list->start_step = step;
  while (summary.at && event_field(&summary, &field, &value, &inner)) read_value(inner, step, list);
}

static inline void read_event_file(const char *path, event_list *list) {
  char *data;
  size_t bytes;
  OK(qe_file_read(path, 1 << 26, &data, &bytes));
  event_bytes from = {(unsigned char *)data, (unsigned char *)data + bytes};
  for (bool first = true; from.at < from.end; first = false) {
    const unsigned char *head = from.at;
    uint64_t length = event_fixed(&from, 8);
    check_masked(head, 8, event_fixed(&from, 4));
    assert_true(length + 4 <= (uint64_t)(from.end - from.at));
    event_bytes event = {from.at, from.at + length};
    from.at += length;
    check_masked(event.at, length, event_fixed(&from, 4));
    read_event(event, first, list);
  }
  qe_free(data);
}

static inline int event_by_name(const void *a, const void *b) {
  return strcmp(a, b);
}

/* All event files of a folder, in the order in which TensorBoard reads them. To be freed. */
static inline event_list *read_events(const char *folder_path) {
  static char name[EVENT_FILES][256];
  event_list *list = calloc(1, sizeof *list);
  assert_non_null(list);
  DIR *listing = opendir(folder_path);
  assert_non_null(listing);
  for (struct dirent *entry; (entry = readdir(listing));) {
    if (!strstr(entry->d_name, "tfevents")) continue;
    assert_true(list->files < EVENT_FILES);
    snprintf(name[list->files++], sizeof name[0], "%s", entry->d_name);
  }
  closedir(listing);
  qsort(name, list->files, sizeof name[0], event_by_name);
  for (size_t i = 0; i < list->files; i++) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder_path, name[i]);
    read_event_file(path, list);
  }
  return list;
}

#endif
