/* The module that does the downloads: loaded when data are got, so that the program starts without the libraries that
 * libcurl brings, and where they are not installed. */
#ifndef QE_FETCH_MODULE_H
#define QE_FETCH_MODULE_H

#include "tools/fetch/digest.h"
#include "tools/fetch/get.h"

#define QE_FETCH_MODULE "libqevo-fetch.so" /* beside libqevo */
#define QE_FETCH_SYMBOL "qe_fetch_module"

typedef struct qe_fetch_functions {
  const char *version; /* of the program that it was built with */
  qe_status (*get)(const qe_remote *set, const qe_get_request *request, char **folder);
  qe_status (*digest_file)(const char *path, bool (*stop)(void), char text[QE_DIGEST_TEXT]);
} qe_fetch_functions;

extern const qe_fetch_functions qe_fetch_module;

#endif
