/* The check of a data set's files: sizes, and checksums where the set was made by qe_get. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "tools/fetch/digest.h"
#include "tools/fetch/get.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { SUMS_BYTES = 1 << 16, HEX = QE_DIGEST_TEXT - 1 };

/* ---- the checksums on disk ---- */

/* The SHA-256 of the line for `name` in `sums`; false when there is none. */
static bool find_sum(const char *sums, const char *name, char text[QE_DIGEST_TEXT]) {
  size_t length = strlen(name);
  for (const char *line = sums; *line;) {
    size_t line_length = strcspn(line, "\n");
    if (line_length == HEX + 2 + length && memcmp(line + HEX + 2, name, length) == 0 &&
        strspn(line, "0123456789abcdef") == HEX) {
      memcpy(text, line, HEX);
      text[HEX] = 0;
      return true;
    }
    line += line_length;
    if (*line) line++;
  }
  return false;
}

/* The checksums of the folder (qe_free); NULL in *sums when it has none. */
static qe_status read_sums(const char *folder, char **sums) {
  *sums = NULL;
  char *path = qe_path_join(folder, QE_SUMS_FILE);
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_file_exists(path) ? qe_file_read(path, SUMS_BYTES, sums, NULL) : QE_OK;
  qe_free(path);
  return status;
}

/* ---- files ---- */

static qe_status check_size(const char *path, int64_t bytes) {
  struct stat info;
  if (stat(path, &info) != 0) return qe_fail(errno == ENOENT ? QE_NOT_FOUND : QE_IO, "%s: %s", path, strerror(errno));
  if (!S_ISREG(info.st_mode)) return qe_fail(QE_FORMAT, "%s: not a plain file", path);
  if (info.st_size != bytes)
    return qe_fail(QE_FORMAT, "%s: %lld bytes, %lld are expected", path, (long long)info.st_size, (long long)bytes);
  return QE_OK;
}

static qe_status check_sum(const char *path, const char *expected, bool (*stop)(void)) {
  char text[QE_DIGEST_TEXT];
  if (!qe_get_available()) return QE_OK;
  QE_TRY(qe_digest_file(path, stop, text));
  if (strcmp(text, expected) == 0) return QE_OK;
  return qe_fail(QE_FORMAT, "%s: changed or damaged: SHA-256 %s, not %s", path, text, expected);
}

static qe_status check_file(const char *path, const qe_remote_file *file, const char *sums, bool (*stop)(void),
                            bool *summed) {
  char expected[QE_DIGEST_TEXT];
  QE_TRY(check_size(path, file->bytes));
  *summed = sums && qe_get_available() && find_sum(sums, file->name, expected);
  return *summed ? check_sum(path, expected, stop) : QE_OK;
}

/* The archive itself may lie there instead, as an idx file that is left compressed. */
static qe_status check_compressed(const qe_remote_archive *archive, const char *folder, bool (*stop)(void),
                                  bool *there) {
  *there = false;
  char *path = qe_path_join(folder, archive->name);
  if (!path) return QE_NO_MEMORY;
  *there = qe_file_exists(path);
  qe_status status = *there ? check_size(path, archive->bytes) : QE_OK;
  if (*there && status == QE_OK) status = check_sum(path, archive->sha256, stop);
  qe_free(path);
  return status;
}

static qe_status check_archive(const qe_remote_archive *archive, const char *folder, const char *sums,
                               bool (*stop)(void), bool *all_summed) {
  for (int at = 0; at < archive->file_count; at++) {
    const qe_remote_file *file = &archive->files[at];
    bool summed = false, compressed = false;
    if (file->bytes == 0) continue;
    char *path = qe_path_join(folder, file->name);
    if (!path) return QE_NO_MEMORY;
    qe_status status = QE_OK;
    if (!archive->inner && !qe_file_exists(path)) status = check_compressed(archive, folder, stop, &compressed);
    if (status == QE_OK && !compressed) status = check_file(path, file, sums, stop, &summed);
    qe_free(path);
    QE_TRY(status);
    *all_summed = *all_summed && (summed || (compressed && qe_get_available()));
  }
  return QE_OK;
}

qe_status qe_get_check(const qe_remote *set, const char *folder, bool (*stop)(void), qe_check *found) {
  char *sums;
  bool all_summed = true;
  qe_status status = QE_OK;
  QE_TRY(read_sums(folder, &sums));
  for (int at = 0; at < set->archive_count && status == QE_OK; at++)
    status = check_archive(&set->archives[at], folder, sums, stop, &all_summed);
  qe_free(sums);
  if (status == QE_OK) *found = all_summed ? QE_CHECK_SUMS : QE_CHECK_SIZES;
  return status;
}
