/* The program's side of the module of downloads: loads it at first use and calls it. */
#include "core/base/alloc.h"
#include "tools/fetch/module.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* The module, or NULL and the reason in `why`. Stays loaded. */
static const qe_fetch_functions *load(char *why, size_t size) {
  static const qe_fetch_functions *loaded;
  if (loaded) return loaded;
  void *module = dlopen(QE_FETCH_MODULE, RTLD_NOW | RTLD_LOCAL); /* found by this program's RUNPATH */
  const qe_fetch_functions *functions = module ? dlsym(module, QE_FETCH_SYMBOL) : NULL;
  if (!functions) {
    const char *says = dlerror();
    snprintf(why, size, "%s", says ? says : QE_FETCH_MODULE " is another file");
  } else if (strcmp(functions->version, QE_VERSION) != 0) {
    snprintf(why, size, QE_FETCH_MODULE " is of version %s, not " QE_VERSION, functions->version);
  } else {
    loaded = functions;
  }
  return loaded;
}

bool qe_get_available(void) {
  char why[512];
  return load(why, sizeof why) != NULL;
}

qe_status qe_digest_file(const char *path, bool (*stop)(void), char text[QE_DIGEST_TEXT]) {
  char why[512];
  const qe_fetch_functions *functions = load(why, sizeof why);
  if (!functions) return qe_fail(QE_REFUSED, "%s: cannot compute its SHA-256: %s", path, why);
  return functions->digest_file(path, stop, text);
}

qe_status qe_get(const qe_remote *set, const qe_get_request *request, char **folder) {
  char why[512];
  const qe_fetch_functions *functions = load(why, sizeof why);
  *folder = NULL;
  if (functions) return functions->get(set, request, folder);
  return qe_fail(QE_REFUSED,
                 "downloads are not possible here: %s. Install libcurl, libarchive and libcrypto (Debian: libcurl4 "
                 "libarchive13 libssl3; to build with them libcurl4-openssl-dev libarchive-dev libssl-dev), or get "
                 "%s%s and so on by hand and put the files into the folder %s of the data folder",
                 why, set->addresses[0], set->archives[0].name, set->folder);
}
