/* Getting a data set: download, verify, unpack, put in its place. */
#include "tools/fetch/get.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "tools/fetch/place.h"
#include "tools/fetch/unpack.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_FILES = 16 };

bool qe_get_available(void) {
  return true;
}

static char *part_of(const qe_place *place, const qe_remote_archive *archive) {
  return qe_path_join(place->work, archive->name);
}

static qe_status download_all(const qe_place *place, const qe_get_request *request) {
  const qe_remote *set = place->set;
  for (int at = 0; at < set->archive_count; at++) {
    char *part = part_of(place, &set->archives[at]);
    if (!part) return QE_NO_MEMORY;
    qe_status status = qe_download(&set->archives[at], request->addresses ? request->addresses : set->addresses, part,
                                   &request->rules);
    qe_free(part);
    QE_TRY(status);
  }
  return QE_OK;
}

/* Unpack one archive and append its files' checksums to *sums. */
static qe_status unpack_one(const qe_place *place, const qe_remote_archive *archive, bool (*stop)(void), char **sums) {
  char digests[MOST_FILES][QE_DIGEST_TEXT];
  if (archive->file_count > MOST_FILES) return qe_fail(QE_USAGE, "%s: more than %d files", archive->name, MOST_FILES);
  char *part = part_of(place, archive);
  if (!part) return QE_NO_MEMORY;
  qe_status status = qe_archive_unpack(archive, part, place->fresh, stop, digests);
  qe_free(part);
  for (int at = 0; at < archive->file_count && status == QE_OK; at++) {
    if (!digests[at][0]) continue;
    char *longer = qe_format("%s%s  %s\n", *sums, digests[at], archive->files[at].name);
    if (!longer) return QE_NO_MEMORY;
    qe_free(*sums);
    *sums = longer;
  }
  return status;
}

static qe_status unpack_all(const qe_place *place, bool (*stop)(void)) {
  const qe_remote *set = place->set;
  char *sums = qe_strdup(""), *path = qe_path_join(place->fresh, QE_SUMS_FILE);
  qe_status status = sums && path ? QE_OK : QE_NO_MEMORY;
  for (int at = 0; at < set->archive_count && status == QE_OK; at++)
    status = unpack_one(place, &set->archives[at], stop, &sums);
  if (status == QE_OK) status = qe_file_write(path, sums, strlen(sums));
  qe_free(sums);
  qe_free(path);
  return status;
}

static void remove_parts(const qe_place *place) {
  for (int at = 0; at < place->set->archive_count; at++) {
    char *part = part_of(place, &place->set->archives[at]);
    if (part) unlink(part);
    qe_free(part);
  }
}

static void say(const qe_get_request *request, const char *text) {
  if (request->rules.note) request->rules.note(request->rules.context, text);
}

qe_status qe_get(const qe_remote *set, const qe_get_request *request, char **folder) {
  qe_place place;
  *folder = NULL;
  int64_t needed = qe_remote_archive_bytes(set) + qe_remote_file_bytes(set) + QE_UNPACK_TEXT;
  QE_TRY(qe_place_open(set, request->place, needed, &place));
  qe_status status = download_all(&place, request);
  if (status == QE_OK) {
    say(request, "unpacking");
    status = unpack_all(&place, request->rules.stop);
    if (status == QE_FORMAT) remove_parts(&place); /* it would be the same the next time */
  }
  if (status == QE_OK) status = qe_place_install(&place);
  if (status == QE_OK) {
    remove_parts(&place);
    *folder = qe_strdup(place.target);
    if (!*folder) status = QE_NO_MEMORY;
  }
  qe_place_close(&place);
  return status;
}
