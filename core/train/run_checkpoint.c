/* Checkpoints of a run: the newest and those before it, replaced so that a kill at any moment leaves a whole one; found
 * again, with a checksum that tells damage. */
#include "core/base/alloc.h"
#include "core/base/crc32c.h"
#include "core/base/file.h"
#include "core/train/run_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OLDEST = 1000 }; /* that is looked for */

double qe_run_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* New text: the checkpoint `back` before the newest. */
static char *path_back(const qe_run *run, int back) {
  if (back == 0) return qe_strdup(run->checkpoint);
  return qe_format("%.*s-%d.safetensors", (int)(strlen(run->checkpoint) - strlen(".safetensors")), run->checkpoint,
                   back);
}

/* ---- checksum ---- */

static uint32_t add_text(uint32_t crc, const char *text) {
  return qe_crc32c(crc, text, strlen(text) + 1);
}

/* Of all tensors and metadata but the checksum itself, in their order. */
static uint32_t checksum(const qe_tensors *tensors) {
  uint32_t crc = 0;
  for (size_t i = 0; i < tensors->count; i++) {
    const qe_named_tensor *tensor = &tensors->items[i];
    crc = add_text(crc, tensor->name);
    crc = add_text(crc, qe_dtype_name(tensor->dtype));
    crc = qe_crc32c(crc, tensor->shape, (size_t)tensor->rank * sizeof *tensor->shape);
    crc = qe_crc32c(crc, tensor->data, tensor->bytes);
  }
  for (size_t i = 0; i < tensors->meta_count; i++) {
    if (strcmp(tensors->meta[i].key, "crc32c") == 0) continue;
    crc = add_text(add_text(crc, tensors->meta[i].key), tensors->meta[i].value);
  }
  return crc;
}

static qe_status check_sum(const qe_tensors *tensors, const char *path) {
  char is[16];
  const char *kept = qe_tensors_get_meta(tensors, "crc32c");
  if (!kept) return QE_OK; /* of a version that wrote none */
  snprintf(is, sizeof is, "%08" PRIx32, checksum(tensors));
  if (strcmp(is, kept) == 0) return QE_OK;
  return qe_fail(QE_FORMAT, "%s: its CRC-32C is %s, must be %s: the file was damaged on disk", path, is, kept);
}

/* ---- finding ---- */

/* Whether there is one `back` before the newest. */
static qe_status look_back(const qe_run *run, int back, bool *there) {
  char *path = path_back(run, back);
  *there = path && qe_file_exists(path);
  qe_free(path);
  return path ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_run_has_checkpoint(const qe_run *run, bool *has) {
  QE_TRY(look_back(run, 0, has));
  return *has ? QE_OK : look_back(run, 1, has); /* on file systems without links a kill can leave only that */
}

static qe_status read_back(const qe_run *run, int back, qe_tensors **tensors) {
  char *path = path_back(run, back);
  *tensors = NULL;
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_tensors_read(path, tensors);
  if (status == QE_OK) status = check_sum(*tensors, path);
  if (status != QE_OK) {
    qe_tensors_free(*tensors);
    *tensors = NULL;
  }
  qe_free(path);
  return status;
}

/* The damaged newest one is kept aside, so that it is not taken for one of the run's. */
static qe_status set_aside(qe_run *run, const char *why) {
  char *path;
  QE_TRY(qe_run_path(run, "checkpoint.damaged.safetensors", &path));
  qe_status status = qe_file_exists(run->checkpoint) ? qe_file_rename(run->checkpoint, path) : QE_OK;
  if (status == QE_OK) qe_run_note(run, "%s; going on from the one before it, %s", why, run->resumed_from);
  qe_free(path);
  return status;
}

qe_status qe_run_find_checkpoint(qe_run *run) {
  char why[1024] = "";
  qe_status first = QE_NOT_FOUND;
  for (int back = 0; back <= OLDEST; back++) {
    qe_status status = read_back(run, back, &run->resumed);
    if (status == QE_OK) {
      run->resumed_from = path_back(run, back);
      if (!run->resumed_from) return QE_NO_MEMORY;
      run->interim = back == 0 && qe_tensors_get_meta(run->resumed, "interim");
      return first == QE_NOT_FOUND ? QE_OK : set_aside(run, why);
    }
    if (status != QE_NOT_FOUND && status != QE_FORMAT && status != QE_IO) return status;
    if (status == QE_NOT_FOUND || first != QE_NOT_FOUND) continue;
    first = status;
    snprintf(why, sizeof why, "%s", qe_message());
  }
  if (first == QE_NOT_FOUND) return QE_NOT_FOUND;
  return qe_fail(first, "%s; there is no sound checkpoint before it: begin again with another --out, --init %s", why,
                 "from last.safetensors if that is there");
}

int64_t qe_run_resumed_number(const qe_run *run, const char *key, int64_t missing) {
  const char *text = qe_tensors_get_meta(run->resumed, key);
  char *end = NULL;
  errno = 0;
  long long value = text ? strtoll(text, &end, 10) : 0;
  return text && !errno && end != text && *end == 0 && value >= 0 ? value : missing;
}

/* ---- saving ---- */

static bool same_file(const char *a, const char *b) {
  struct stat left, right;
  return stat(a, &left) == 0 && stat(b, &right) == 0 && left.st_dev == right.st_dev && left.st_ino == right.st_ino;
}

/* Checkpoint `back` - 1 becomes the one `back` before. The newest keeps its name as well, where the file system knows
 * links, so that there is one at every moment. */
static qe_status move_back(const qe_run *run, int back) {
  char *from = path_back(run, back - 1), *to = path_back(run, back);
  qe_status status = from && to ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK && (back > 1 || link(from, to) != 0) && qe_file_exists(from)) status = qe_file_rename(from, to);
  qe_free(from);
  qe_free(to);
  return status;
}

/* The newest and those before it move one back, up to the first gap, so that to do this again after a kill changes
 * nothing more. */
static qe_status make_room(const qe_run *run) {
  int last = 1;
  bool there = false;
  char *before = path_back(run, 1);
  if (!before) return QE_NO_MEMORY;
  bool linked = same_file(run->checkpoint, before);
  qe_free(before);
  if (linked || !qe_file_exists(run->checkpoint)) return QE_OK;
  for (; last < run->options.keep - 1; last++) {
    QE_TRY(look_back(run, last, &there));
    if (!there) break;
  }
  for (int back = last; back >= 1; back--) QE_TRY(move_back(run, back));
  return QE_OK;
}

/* Those that are more than to be kept. */
static qe_status drop_older(const qe_run *run) {
  for (int back = run->options.keep > 1 ? run->options.keep : 1;; back++) {
    bool there = false;
    QE_TRY(look_back(run, back, &there));
    if (!there) return QE_OK;
    char *path = path_back(run, back);
    qe_status status = path ? qe_file_remove(path) : QE_NO_MEMORY;
    qe_free(path);
    QE_TRY(status);
  }
}

static qe_status put_in_place(qe_run *run, const char *fresh, bool interim) {
  if (run->options.keep > 1 && !run->interim) QE_TRY(make_room(run));
  QE_TRY(qe_file_rename(fresh, run->checkpoint));
  QE_TRY(drop_older(run));
  run->interim = interim;
  run->saved_at = qe_run_clock();
  return qe_folder_sync(run->options.folder);
}

static qe_status set_number(qe_tensors *tensors, const char *key, int64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%" PRId64, value);
  return qe_tensors_set_meta(tensors, key, text);
}

static qe_status add_places(const qe_run *run, qe_tensors *tensors) {
  const qe_board_place *place = qe_board_where(run->board);
  int64_t bytes = qe_file_bytes(run->metrics);
  QE_TRY(set_number(tensors, "metrics_bytes", bytes > 0 ? bytes : 0));
  if (!*place->file) return QE_OK;
  QE_TRY(qe_board_sync(run->board));
  QE_TRY(qe_tensors_set_meta(tensors, "events_file", place->file));
  QE_TRY(set_number(tensors, "events_bytes", place->bytes));
  return set_number(tensors, "events_step", place->step);
}

qe_status qe_run_save_state(qe_run *run, qe_tensors *tensors, const char *phase, bool interim) {
  char crc[16], *fresh;
  if (!run->checkpoint) return QE_OK;
  QE_TRY(qe_tensors_set_meta(tensors, "phase", phase));
  if (interim) QE_TRY(qe_tensors_set_meta(tensors, "interim", "true"));
  QE_TRY(set_number(tensors, "steps_before", run->steps_before));
  QE_TRY(add_places(run, tensors));
  snprintf(crc, sizeof crc, "%08" PRIx32, checksum(tensors));
  QE_TRY(qe_tensors_set_meta(tensors, "crc32c", crc));
  QE_TRY(qe_run_path(run, "checkpoint.new.safetensors", &fresh));
  qe_status status = qe_tensors_write(tensors, fresh);
  if (status == QE_OK) status = put_in_place(run, fresh, interim);
  qe_free(fresh);
  return status;
}

qe_status qe_run_explain(const qe_run *run, qe_status status) {
  if (status != QE_IO && status != QE_DEVICE && status != QE_NO_MEMORY) return status;
  bool has = false;
  char why[1024];
  snprintf(why, sizeof why, "%s", qe_message());
  if (!run->checkpoint || qe_run_has_checkpoint(run, &has) != QE_OK || !has) return qe_fail(status, "%s", why);
  return qe_fail(status, "%s. The last checkpoint is whole: go on with --resume --out %s", why,
                 qe_run_resume_folder(run));
}

bool qe_run_due(const qe_run *run) {
  double minutes = run->options.save_minutes;
  return run->checkpoint && minutes > 0 && qe_run_clock() - run->saved_at >= 60 * minutes;
}
