/* Getting a data set: download, verify, unpack, put in its place; and the check of a set that is there. */
#ifndef QE_FETCH_GET_H
#define QE_FETCH_GET_H

#include "tools/fetch/download.h"

#include <stdbool.h>

/* In the folder of a set that qe_get made: a line "SHA-256  name" a file, as sha256sum reads them. */
#define QE_SUMS_FILE "SHA256SUMS"

/* Whether what downloads need (libcurl, libarchive, libcrypto) is here. */
bool qe_get_available(void);

/* What a check of a set's folder found. */
typedef enum qe_check {
  QE_CHECK_SIZES, /* every file is there and has its size; contents are not known, or cannot be checked */
  QE_CHECK_SUMS   /* and its SHA-256 */
} qe_check;

/* Check the files of `folder`. QE_NOT_FOUND or QE_FORMAT with the first file that is missing or wrong. */
QE_CHECKED qe_status qe_get_check(const qe_remote *set, const char *folder, bool (*stop)(void), qe_check *found);

typedef struct qe_get_request {
  const char *place;            /* the data folder; made when it is missing */
  const char *const *addresses; /* instead of the published ones; NULL: those */
  qe_download_rules rules;
} qe_get_request;

/* Get the set into PLACE/FOLDER of the set; *folder (qe_free) is that folder. Work in progress lies in
 * PLACE/FOLDER.part, and a set appears in its place whole, by a rename; files in its place that are not the set's stay.
 * QE_IO: no address gave it, disk full, no permission, or another process is at it; QE_FORMAT: a hostile or foreign
 * archive; QE_INTERRUPTED. After a failure the same call goes on where this one ended. */
QE_CHECKED qe_status qe_get(const qe_remote *set, const qe_get_request *request, char **folder);

#endif
