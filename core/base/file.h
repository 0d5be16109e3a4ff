/* Files and folders: whole-file reads, atomic writes, durable lines, paths. Every message names the file. */
#ifndef QE_BASE_FILE_H
#define QE_BASE_FILE_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_span {
  const void *data;
  size_t bytes;
} qe_span;

/* The whole file into new memory (qe_free), followed by one 0 byte that `bytes` does not count. `bytes` may be NULL.
 * QE_NOT_FOUND when there is no such file, QE_FORMAT when it is larger than `limit` bytes, else QE_IO. */
QE_CHECKED qe_status qe_file_read(const char *path, size_t limit, char **data, size_t *bytes);

/* The status and message of a call on `path` ("write") that failed with this errno, with the cure. */
qe_status qe_file_fail(const char *path, const char *what, int error);

/* Replace `path` by the bytes, all or nothing: written to `path`.part.<pid>, synced, renamed, the folder synced.
 * On failure the old file is as it was and the .part file is removed. */
QE_CHECKED qe_status qe_file_write(const char *path, const void *data, size_t bytes);
/* The same for `count` pieces one after the other. */
QE_CHECKED qe_status qe_file_write_spans(const char *path, const qe_span *spans, size_t count);

/* Append the bytes; what a failure left of them is cut off again. `sync`: they are durable when this returns. */
QE_CHECKED qe_status qe_file_append(const char *path, const void *data, size_t bytes, bool sync);
/* Append `line` and a newline in one write and sync. A last line that a crash cut short is ended first. */
QE_CHECKED qe_status qe_file_append_line(const char *path, const char *line);
/* Make what was written to a file durable. */
QE_CHECKED qe_status qe_file_sync(const char *path);
/* Shorten a file that is longer than `bytes`; others, and a file that is not there, are left as they are. */
QE_CHECKED qe_status qe_file_cut(const char *path, int64_t bytes);
/* Bytes of a file; -1: there is none. */
int64_t qe_file_bytes(const char *path);
/* Rename within a folder, over what is there; remove a file if it is there. Durable after qe_folder_sync. */
QE_CHECKED qe_status qe_file_rename(const char *from, const char *to);
QE_CHECKED qe_status qe_file_remove(const char *path);
/* Make new, renamed and removed files of a folder durable. File systems that cannot do that are left be. */
QE_CHECKED qe_status qe_folder_sync(const char *folder);

/* Make the folder and those above it that are missing. */
QE_CHECKED qe_status qe_make_folders(const char *path);

/* Whether something that may be looked at is there, of whatever kind; whether it is a folder. */
bool qe_file_exists(const char *path);
bool qe_folder_exists(const char *path);

/* New text (qe_free): `folder`/`name`; `name` alone when it is absolute or `folder` is "". NULL with a message when
 * there is no memory. */
char *qe_path_join(const char *folder, const char *name);
/* New text (qe_free): what stands before the last '/': "." when there is none, "/" for the root. */
char *qe_path_folder(const char *path);
/* The part of `path` after its last '/'. */
const char *qe_path_name(const char *path);

#ifdef __cplusplus
}
#endif
#endif
