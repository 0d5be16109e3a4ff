/* Lists of encoded images: where each lies and which class it is of. Found in folders and in tar shards. */
#ifndef QE_DATA_IMAGE_LIST_H
#define QE_DATA_IMAGE_LIST_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Texts in one block of memory, told by where they begin. */
typedef struct qe_texts {
  char *bytes;
  size_t count, capacity;
} qe_texts;

QE_CHECKED qe_status qe_texts_add(qe_texts *texts, const char *text, size_t *at);

typedef struct qe_image_entry {
  size_t file;  /* text: the file, or the shard */
  size_t inner; /* text: the path within the shard; 0 (the empty text): the file is the image */
  uint64_t offset;
  uint32_t bytes; /* in the shard */
  int32_t label;
} qe_image_entry;

typedef struct qe_image_list {
  qe_texts texts; /* the first is "" */
  qe_image_entry *entry;
  size_t count, capacity;
} qe_image_list;

void qe_image_list_free(qe_image_list *list);

/* The names of classes. They are numbered in the order of their names once all are known; until then, in the order in
 * which they came. Classes given as numbers have no names. */
typedef struct qe_class_names {
  char **name;     /* by number */
  int32_t *sorted; /* numbers in the order of the names */
  int32_t count;   /* with numbers only: one more than the largest */
  size_t name_capacity, sorted_capacity;
  bool numbers; /* classes are given as numbers */
  bool closed;  /* all are known: no other may come */
} qe_class_names;

void qe_class_names_free(qe_class_names *classes);

/* The images of one part of a data set, training or test, added to the list. `place`: a folder with a folder for each
 * class, in which JPEG and PNG files lie, at any depth; or a folder of tar shards. Files are taken in the order of
 * their names. QE_NOT_FOUND: the folder is not there; QE_FORMAT names what is wrong with its content. */
QE_CHECKED qe_status qe_image_list_read(const char *place, qe_class_names *classes, qe_image_list *list);
/* Only those shards of `place` whose names contain one of `words` (NULL past the last). Adds nothing when there is
 * none. */
QE_CHECKED qe_status qe_image_list_read_shards(const char *place, const char *const *words, qe_class_names *classes,
                                               qe_image_list *list);

/* The images in a tar, which `bytes` [count] are, not compressed. A class is the content of a file with the image's
 * path up to the first dot of its name and the ending .cls, or else the name of the folder that holds the image. `file`
 * is its path. */
QE_CHECKED qe_status qe_image_list_add_tar(const uint8_t *bytes, size_t count, const char *file,
                                           qe_class_names *classes, qe_image_list *list);

/* No more classes: numbers them by name and makes the labels of `list`, which were found with them, the new numbers. */
QE_CHECKED qe_status qe_class_names_close(qe_class_names *classes, qe_image_list *list);

/* For messages: "file" or "shard: path". */
void qe_image_list_name(const qe_image_list *list, size_t entry, char *text, size_t bytes);
/* The encoded image: *data (qe_realloc, *capacity bytes, both kept from call to call) receives *bytes. */
QE_CHECKED qe_status qe_image_list_load(const qe_image_list *list, size_t entry, uint8_t **data, size_t *capacity,
                                        size_t *bytes);

/* ---- for readers ---- */

/* The number of the class called so; a new one unless they are closed, which is QE_FORMAT as is a name among numbers.
 * `where` is for messages. */
QE_CHECKED qe_status qe_class_names_find(qe_class_names *classes, const char *name, const char *where, int32_t *number);
/* The same of a class that is given as a number. */
QE_CHECKED qe_status qe_class_names_number(qe_class_names *classes, int32_t number, const char *where);
QE_CHECKED qe_status qe_image_list_add(qe_image_list *list, const qe_image_entry *entry);
/* The path ends as JPEG and PNG files do, in any case. */
bool qe_is_image_path(const char *path);

#ifdef __cplusplus
}
#endif
#endif
