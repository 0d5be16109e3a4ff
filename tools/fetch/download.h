/* A file with a known SHA-256 from the first of several addresses that gives it. */
#ifndef QE_FETCH_DOWNLOAD_H
#define QE_FETCH_DOWNLOAD_H

#include "tools/fetch/remote.h"
#include "tools/fetch/transfer.h"

#include <stddef.h>

typedef struct qe_download_rules {
  qe_patience patience;
  qe_patience hurry;             /* while there are other addresses to try; stall_seconds 0: no hurry */
  int tries;                     /* at one address, of which each but the last brought nothing */
  int first_pause_ms, pauses_ms; /* the pause before the second try, doubled before each further one; the longest */
  bool (*stop)(void);            /* may be NULL */
  /* May be NULL. Bytes of the file that are here. */
  void (*progress)(void *context, const char *file, int64_t arrived, int64_t bytes);
  void (*note)(void *context, const char *text); /* may be NULL: what went wrong and is being dealt with */
  void *context;
} qe_download_rules;

/* The usual ones, for an initialiser: the longest of the pauses is 8 s. Toronto's server of the CIFAR sets has been
 * seen to give 55 kB/s (pytorch/vision issue 9536), hence the hurry. */
#define QE_DOWNLOAD_USUAL                                                                                              \
  .patience = {.connect_seconds = 10, .stall_seconds = 30, .stall_bytes = 1000},                                       \
  .hurry = {.connect_seconds = 10, .stall_seconds = 20, .stall_bytes = 150000}, .tries = 5, .first_pause_ms = 1000,    \
  .pauses_ms = 30000

/* Get `archive` into the file `part`, going on where that ends. `addresses`: folders, or the file itself; ended by
 * NULL. QE_IO: no address gave it, with the reason of each; QE_INTERRUPTED. What has arrived is kept unless it is
 * wrong. */
QE_CHECKED qe_status qe_download(const qe_remote_archive *archive, const char *const *addresses, const char *part,
                                 const qe_download_rules *rules);

/* The URL (qe_free) of `name` below `address`: an address that ends with the name is the file itself; one without
 * "://" is a folder of this machine. NULL with a message. */
char *qe_download_url(const char *address, const char *name);

#endif
