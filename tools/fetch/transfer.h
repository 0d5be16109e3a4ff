/* One attempt to get one file from one address, by libcurl, going on where the part on disk ends. */
#ifndef QE_FETCH_TRANSFER_H
#define QE_FETCH_TRANSFER_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* What an attempt came to. */
typedef enum qe_outcome {
  QE_TRANSFER_DONE,  /* the part has all its bytes (not compared with any checksum) */
  QE_TRANSFER_AGAIN, /* it may work in a moment: cut off, too slow, server busy */
  QE_TRANSFER_NEXT,  /* this address will not give the file */
  QE_TRANSFER_STOP   /* no address would help: disk, interrupted, memory; qe_message says what */
} qe_outcome;

typedef struct qe_patience {
  int connect_seconds; /* for name look-up, connection and TLS */
  int stall_seconds;   /* a transfer that is slower than `stall_bytes` a second for so long is given up */
  int stall_bytes;
} qe_patience;

enum { QE_TRANSFER_WHY = 512 };

typedef struct qe_transfer {
  const char *url;
  const char *part; /* the file on disk; made, appended to, or emptied where the server cannot go on */
  int64_t bytes;    /* of the whole file */
  qe_patience patience;
  bool (*stop)(void);                               /* may be NULL */
  void (*progress)(void *context, int64_t arrived); /* bytes of the part; may be NULL; often */
  void *context;
  /* results */
  qe_outcome outcome;
  qe_status status;          /* of STOP */
  int retry_after;           /* seconds the server asks to wait; 0: it does not say */
  bool unreachable;          /* no answer at all: no name, no connection */
  bool slow;                 /* given up for its speed */
  char why[QE_TRANSFER_WHY]; /* NEXT and AGAIN: what went wrong, for people */
} qe_transfer;

/* Always returns; results are in the struct. */
void qe_transfer_run(qe_transfer *transfer);

#endif
