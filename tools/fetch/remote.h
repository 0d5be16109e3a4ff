/* Where data sets can be downloaded, what arrives, and which files of it are kept: a table. */
#ifndef QE_FETCH_REMOTE_H
#define QE_FETCH_REMOTE_H

#include <stddef.h>
#include <stdint.h>

/* A file of the unpacked set. */
typedef struct qe_remote_file {
  const char *name;
  int64_t bytes; /* exactly; 0: a small text that nothing depends on, which may be missing */
} qe_remote_file;

/* A file to download. */
typedef struct qe_remote_archive {
  const char *name; /* below each of the addresses */
  int64_t bytes;
  const char *sha256;
  const char *inner; /* a .tar.gz: the folder in it that holds `files`; NULL: a .gz of files[0] */
  const qe_remote_file *files;
  int file_count;
} qe_remote_archive;

typedef struct qe_remote {
  const char *name;             /* as in --data */
  const char *folder;           /* below the data folder */
  const char *origin;           /* who made it, for `data info` */
  const char *const *addresses; /* folders with the archives, the first one first; ended by NULL */
  const qe_remote_archive *archives;
  int archive_count;
} qe_remote;

const qe_remote *qe_remotes(size_t *count);
/* NULL when there is none of this name. */
const qe_remote *qe_remote_find(const char *name);

/* Bytes to download, and of the files that are kept. */
int64_t qe_remote_archive_bytes(const qe_remote *of);
int64_t qe_remote_file_bytes(const qe_remote *of);

#endif
