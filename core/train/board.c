/* The event files of TensorBoard: protobuf messages, their framing, the files of a run. */
#include "core/train/board.h"

#include "core/base/alloc.h"
#include "core/base/crc32c.h"
#include "core/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char prefix[] = "events.out.tfevents.";

typedef struct bytes {
  char *data;
  size_t length, capacity;
  qe_status status; /* the first failure sticks */
} bytes;

struct qe_board {
  char *folder;
  qe_board_place place;
  bool opened, restarted; /* this process has a file of its own; it has to say that it goes on with a run */
  bytes summary, event;   /* reused; the summary holds what waits for the flush */
};

/* ---- protobuf (protobuf.dev, "Encoding") ---- */

enum { VARINT, FIXED64, LENGTH, FIXED32 = 5 };

static void put(bytes *to, const void *data, size_t length) {
  if (to->status == QE_OK) to->status = qe_reserve(&to->data, &to->capacity, to->length + length, 1);
  if (to->status != QE_OK || length == 0) return;
  memcpy(to->data + to->length, data, length);
  to->length += length;
}

/* Little-endian, `count` bytes. */
static void put_fixed(bytes *to, uint64_t value, int count) {
  unsigned char text[8];
  for (int i = 0; i < count; i++) text[i] = (unsigned char)(value >> 8 * i);
  put(to, text, (size_t)count);
}

static size_t varint_length(uint64_t value) {
  size_t length = 1;
  while (value >>= 7) length++;
  return length;
}

static void put_varint(bytes *to, uint64_t value) {
  unsigned char text[10];
  size_t length = 0;
  for (; value >= 128; value >>= 7) text[length++] = (unsigned char)(value & 127) | 128;
  text[length++] = (unsigned char)value;
  put(to, text, length);
}

static void put_key(bytes *to, int field, int wire) {
  put_varint(to, (uint64_t)(field << 3 | wire));
}

static void put_integer(bytes *to, int field, int64_t value) {
  put_key(to, field, VARINT);
  put_varint(to, (uint64_t)value);
}

static uint64_t bits_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static void put_double(bytes *to, int field, double value) {
  put_key(to, field, FIXED64);
  put_fixed(to, bits_of(value), 8);
}

static void put_float(bytes *to, int field, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  put_key(to, field, FIXED32);
  put_fixed(to, bits, 4);
}

static void put_text(bytes *to, int field, const char *text, size_t length) {
  put_key(to, field, LENGTH);
  put_varint(to, length);
  put(to, text, length);
}

/* ---- messages ---- */

/* Event: wall_time 1, step 2, file_version 3, summary 5, session_log 7. SessionLog: status 1, START is 1. */
enum { EVENT_TIME = 1, EVENT_STEP, EVENT_VERSION, EVENT_SUMMARY = 5, EVENT_SESSION = 7, SESSION_STATUS = 1, START = 1 };
/* Summary: value 1. Summary.Value: tag 1, simple_value 2, histo 5. */
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SCALAR = 2, VALUE_HISTOGRAM = 5 };
/* HistogramProto: doubles; the last two are packed lists. */
enum { HISTO_MIN = 1, HISTO_MAX, HISTO_COUNT, HISTO_SUM, HISTO_SQUARES, HISTO_EDGES, HISTO_CELLS };

static size_t text_length(size_t length) { /* of a field below 16 */
  return 1 + varint_length(length) + length;
}

void qe_board_scalar(qe_board *board, const char *tag, double value) {
  size_t length = strlen(tag);
  put_key(&board->summary, SUMMARY_VALUE, LENGTH);
  put_varint(&board->summary, text_length(length) + 1 + sizeof(float));
  put_text(&board->summary, VALUE_TAG, tag, length);
  put_float(&board->summary, VALUE_SCALAR, (float)value);
}

static void put_cells(bytes *to, const qe_board_cells *cells) {
  double total = 0;
  for (size_t i = 0; i < cells->count; i++) total += (double)cells->cell[i];
  put_double(to, HISTO_MIN, cells->low);
  put_double(to, HISTO_MAX, cells->edge[cells->count - 1]);
  put_double(to, HISTO_COUNT, total);
  put_double(to, HISTO_SUM, cells->sum);
  put_double(to, HISTO_SQUARES, cells->square_sum);
  for (int list = HISTO_EDGES; list <= HISTO_CELLS; list++) {
    put_key(to, list, LENGTH);
    put_varint(to, cells->count * sizeof(double));
    for (size_t i = 0; i < cells->count; i++)
      put_fixed(to, bits_of(list == HISTO_EDGES ? cells->edge[i] : (double)cells->cell[i]), 8);
  }
}

void qe_board_histogram(qe_board *board, const char *tag, const qe_board_cells *cells) {
  if (cells->count == 0) return;
  size_t length = strlen(tag), list = text_length(cells->count * sizeof(double));
  size_t histogram = HISTO_SQUARES * (1 + sizeof(double)) + 2 * list;
  put_key(&board->summary, SUMMARY_VALUE, LENGTH);
  put_varint(&board->summary, text_length(length) + text_length(histogram));
  put_text(&board->summary, VALUE_TAG, tag, length);
  put_key(&board->summary, VALUE_HISTOGRAM, LENGTH);
  put_varint(&board->summary, histogram);
  put_cells(&board->summary, cells);
}

/* ---- records ---- */

static uint32_t masked(const void *data, size_t length) {
  uint32_t crc = qe_crc32c(0, data, length);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

enum { HEAD = 12, FOOT = 4 };

/* Begin an event behind the room for the head of its record; returns where it begins. */
static size_t begin_event(bytes *to, int64_t step) {
  static const char room[HEAD];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  put(to, room, HEAD);
  size_t at = to->length;
  put_double(to, EVENT_TIME, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
  if (step != 0) put_integer(to, EVENT_STEP, step);
  return at;
}

static void end_event(bytes *to, size_t at) {
  if (to->status != QE_OK) return;
  size_t length = to->length - at, end = to->length;
  put_fixed(to, masked(to->data + at, length), FOOT);
  if (to->status != QE_OK) return;
  bytes head = {.data = to->data + at - HEAD, .capacity = HEAD};
  put_fixed(&head, length, 8);
  put_fixed(&head, masked(head.data, 8), FOOT);
  to->length = end + FOOT;
}

/* ---- files ---- */

/* Files are sorted by name: the time in it is never before that of an older one. */
static qe_status name_file(qe_board *board) {
  char host[64] = "";
  long long now = (long long)time(NULL), older = 0;
  if (sscanf(board->place.file, "events.out.tfevents.%lld", &older) == 1 && older >= now) now = older + 1;
  gethostname(host, sizeof host - 1);
  for (char *c = host; *c; c++)
    if (*c == '/') *c = '-';
  snprintf(board->place.file, sizeof board->place.file, "%s%010lld.%s.%ld", prefix, now, host, (long)getpid());
  board->place.bytes = 0;
  return QE_OK;
}

/* What a file starts with; the first of a resumed run says from which step on older events are void. */
static void begin_file(qe_board *board) {
  static const char version[] = "brain.Event:2";
  size_t at = begin_event(&board->event, 0);
  put_text(&board->event, EVENT_VERSION, version, sizeof version - 1);
  end_event(&board->event, at);
  if (!board->restarted) return;
  at = begin_event(&board->event, board->place.step + 1);
  put_key(&board->event, EVENT_SESSION, LENGTH);
  put_varint(&board->event, 2);
  put_integer(&board->event, SESSION_STATUS, START);
  end_event(&board->event, at);
}

static qe_status append(qe_board *board) {
  if (!board->opened) QE_TRY(name_file(board));
  char *path = qe_path_join(board->folder, board->place.file);
  qe_status status = path ? qe_file_append(path, board->event.data, board->event.length, false) : QE_NO_MEMORY;
  qe_free(path);
  if (status != QE_OK) return status;
  board->opened = true;
  board->place.bytes += (int64_t)board->event.length;
  return QE_OK;
}

static void empty(bytes *of) {
  of->length = 0;
  of->status = QE_OK;
}

qe_status qe_board_flush(qe_board *board, int64_t step) {
  qe_status status = board->summary.status;
  if (status == QE_OK && board->summary.length == 0) return QE_OK;
  empty(&board->event);
  if (!board->opened) begin_file(board);
  size_t at = begin_event(&board->event, step);
  put_text(&board->event, EVENT_SUMMARY, board->summary.data, board->summary.length);
  end_event(&board->event, at);
  empty(&board->summary);
  if (status == QE_OK) status = board->event.status;
  if (status == QE_OK) status = append(board);
  if (status == QE_OK && step > board->place.step) board->place.step = step;
  return status;
}

qe_status qe_board_sync(const qe_board *board) {
  if (!board->opened) return QE_OK;
  char *path = qe_path_join(board->folder, board->place.file);
  qe_status status = path ? qe_file_sync(path) : QE_NO_MEMORY;
  qe_free(path);
  return status;
}

const qe_board_place *qe_board_where(const qe_board *board) {
  return &board->place;
}

/* ---- opening ---- */

/* Remove the event files whose names come after `file`; "": all. */
static qe_status remove_later(const char *folder, const char *file) {
  DIR *listing = opendir(folder);
  if (!listing) return qe_file_fail(folder, "list the folder", errno);
  qe_status status = QE_OK;
  for (struct dirent *entry; status == QE_OK && (entry = readdir(listing));) {
    if (strncmp(entry->d_name, prefix, sizeof prefix - 1) != 0 || strcmp(entry->d_name, file) <= 0) continue;
    char *path = qe_path_join(folder, entry->d_name);
    status = path ? qe_file_remove(path) : QE_NO_MEMORY;
    qe_free(path);
  }
  closedir(listing);
  return status;
}

static qe_status cut_back(const char *folder, const qe_board_place *to) {
  QE_TRY(remove_later(folder, to->file));
  if (!*to->file) return QE_OK;
  char *path = qe_path_join(folder, to->file);
  qe_status status = path ? qe_file_cut(path, to->bytes) : QE_NO_MEMORY;
  qe_free(path);
  return status;
}

/* A checkpoint may come from anywhere: no other file is cut. */
static bool is_own_name(const char *file) {
  return strncmp(file, prefix, sizeof prefix - 1) == 0 && !strchr(file, '/');
}

qe_status qe_board_open(const char *folder, const qe_board_place *from, qe_board **out) {
  static const qe_board_place start;
  qe_board *board = QE_NEW(qe_board);
  if (!board) return QE_NO_MEMORY;
  board->restarted = from != NULL;
  board->place = from && (!*from->file || is_own_name(from->file)) ? *from : start;
  board->folder = qe_strdup(folder);
  qe_status status = board->folder ? cut_back(folder, &board->place) : QE_NO_MEMORY;
  if (status != QE_OK) {
    qe_board_close(board);
    return status;
  }
  *out = board;
  return QE_OK;
}

void qe_board_close(qe_board *board) {
  if (!board) return;
  qe_free(board->folder);
  qe_free(board->summary.data);
  qe_free(board->event.data);
  qe_free(board);
}
