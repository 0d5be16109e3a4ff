/* The implementation `onednn` of convolutions and fully connected layers and of their gradients.
 *
 * Activations stay in the plain layout [N,H,W,C] where oneDNN has a fast kernel for it; weights are always turned into
 * the layout that its kernel likes best, which costs little beside the convolution. */
#include "backends/cpu/dnn.h"
#include "backends/cpu/parallel.h"

#include <string.h>

/* Which operand is which, by op. */
typedef struct conv_roles {
  int x, w, y;
} conv_roles;

static conv_roles roles_of(qe_op op) {
  if (op == QE_OP_conv2d || op == QE_OP_linear) return (conv_roles){0, 1, 2};
  if (op == QE_OP_conv2d_grad_x || op == QE_OP_linear_grad_x) return (conv_roles){2, 1, 0};
  return (conv_roles){1, 2, 0};
}

static bool is_grad_x(qe_op op) {
  return op == QE_OP_conv2d_grad_x || op == QE_OP_linear_grad_x;
}
static bool is_grad_w(qe_op op) {
  return op == QE_OP_conv2d_grad_w || op == QE_OP_linear_grad_w;
}

/* x, w, y in this order; their layouts are filled in by the caller. */
static void fill_operands(qe_op op, dnn_operand *operand) {
  conv_roles at = roles_of(op);
  operand[0] = (dnn_operand){.at = at.x, .argument = DNNL_ARG_SRC, .query = dnnl_query_src_md};
  operand[1] = (dnn_operand){.at = at.w, .argument = DNNL_ARG_WEIGHTS, .query = dnnl_query_weights_md};
  operand[2] = (dnn_operand){.at = at.y, .argument = DNNL_ARG_DST, .query = dnnl_query_dst_md};
  if (is_grad_x(op)) {
    operand[0].argument = DNNL_ARG_DIFF_SRC;
    operand[0].query = dnnl_query_diff_src_md;
  }
  if (is_grad_w(op)) {
    operand[1].argument = DNNL_ARG_DIFF_WEIGHTS;
    operand[1].query = dnnl_query_diff_weights_md;
  }
  if (is_grad_x(op) || is_grad_w(op)) {
    operand[2].argument = DNNL_ARG_DIFF_DST;
    operand[2].query = dnnl_query_diff_dst_md;
  }
}

/* The scratchpad is the caller's. */
static dnnl_status_t make_attr(dnnl_primitive_attr_t *attr) {
  dnnl_status_t status = dnnl_primitive_attr_create(attr);
  if (status != dnnl_success) return status;
  status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
  if (status != dnnl_success) dnnl_primitive_attr_destroy(*attr);
  return status;
}

/* ---- convolution ---- */

/* How a convolution is asked for. */
typedef struct conv_wish {
  dnnl_data_type_t factors; /* f32 or bf16; sums and results are f32 */
  bool any_maps;            /* maps in the layout that the primitive likes best, not the plain one */
} conv_wish;

/* A map in plain layout; `any`: in the layout that the primitive likes best. */
static dnnl_status_t map_layout(dnnl_memory_desc_t *layout, const qe_desc *map, dnnl_data_type_t type, bool any) {
  dnnl_dims_t dims = {map->dim[QE_N], map->dim[QE_C], map->dim[QE_H], map->dim[QE_W]};
  return dnnl_memory_desc_init_by_tag(layout, 4, dims, type, any ? dnnl_format_tag_any : dnnl_nhwc);
}

/* Weights [O, kh, kw, I / groups]; oneDNN gives the groups an axis of their own. */
static dnnl_status_t weight_layout(dnnl_memory_desc_t *layout, const qe_desc *w, int64_t groups, dnnl_data_type_t type,
                                   bool any) {
  int64_t outputs = w->dim[QE_N] / groups, inputs = w->dim[QE_C];
  int64_t line = w->dim[QE_W] * inputs, filter = w->dim[QE_H] * line;
  dnnl_dims_t dims = {groups, outputs, inputs, w->dim[QE_H], w->dim[QE_W]};
  dnnl_dims_t strides = {outputs * filter, filter, 1, line, inputs};
  int skip = groups == 1;
  if (any) return dnnl_memory_desc_init_by_tag(layout, 5 - skip, dims + skip, type, dnnl_format_tag_any);
  return dnnl_memory_desc_init_by_strides(layout, 5 - skip, dims + skip, type, strides + skip);
}

typedef struct conv_layouts {
  dnnl_memory_desc_t x, w, y;
} conv_layouts;

/* In the call's memory. */
static dnnl_status_t plain_layouts(conv_layouts *to, const qe_call *call) {
  conv_roles at = roles_of(call->op);
  dnnl_status_t status = map_layout(&to->x, &call->operand[at.x].desc, dnnl_f32, false);
  if (status == dnnl_success) status = map_layout(&to->y, &call->operand[at.y].desc, dnnl_f32, false);
  if (status == dnnl_success)
    status = weight_layout(&to->w, &call->operand[at.w].desc, call->attrs.window.groups, dnnl_f32, false);
  return status;
}

/* For a primitive that does `op` on the operands of `call`. */
static dnnl_status_t wished_layouts(conv_layouts *to, qe_op op, const qe_call *call, conv_wish wish) {
  conv_roles at = roles_of(call->op);
  dnnl_data_type_t x = is_grad_x(op) ? dnnl_f32 : wish.factors, w = is_grad_w(op) ? dnnl_f32 : wish.factors;
  dnnl_data_type_t y = is_grad_x(op) || is_grad_w(op) ? wish.factors : dnnl_f32;
  dnnl_status_t status = map_layout(&to->x, &call->operand[at.x].desc, x, wish.any_maps);
  if (status == dnnl_success) status = map_layout(&to->y, &call->operand[at.y].desc, y, wish.any_maps);
  if (status == dnnl_success)
    status = weight_layout(&to->w, &call->operand[at.w].desc, call->attrs.window.groups, w, true);
  return status;
}

static dnnl_status_t conv_desc(dnnl_convolution_desc_t *desc, qe_op op, const qe_window *window,
                               const conv_layouts *layouts) {
  dnnl_dims_t stride = {window->stride[0], window->stride[1]};
  dnnl_dims_t dilation = {window->dilation[0] - 1, window->dilation[1] - 1}; /* oneDNN counts from 0 */
  dnnl_dims_t before = {window->pad[0], window->pad[1]}, after = {window->pad[2], window->pad[3]};
  if (op == QE_OP_conv2d_grad_x)
    return dnnl_dilated_convolution_backward_data_desc_init(desc, dnnl_convolution_direct, &layouts->x, &layouts->w,
                                                            &layouts->y, stride, dilation, before, after);
  if (op == QE_OP_conv2d_grad_w)
    return dnnl_dilated_convolution_backward_weights_desc_init(desc, dnnl_convolution_direct, &layouts->x, &layouts->w,
                                                               NULL, &layouts->y, stride, dilation, before, after);
  return dnnl_dilated_convolution_forward_desc_init(desc, dnnl_forward_training, dnnl_convolution_direct, &layouts->x,
                                                    &layouts->w, NULL, &layouts->y, stride, dilation, before, after);
}

/* oneDNN wants a gradient's forward primitive as a hint. */
static dnnl_status_t conv_hint(dnnl_primitive_desc_t *hint, dnnl_engine_t engine, const qe_call *call,
                               dnnl_data_type_t factors) {
  *hint = NULL;
  if (call->op == QE_OP_conv2d) return dnnl_success;
  conv_layouts any;
  dnnl_convolution_desc_t desc;
  dnnl_status_t status = wished_layouts(&any, QE_OP_conv2d, call, (conv_wish){factors, true});
  if (status == dnnl_success) status = conv_desc(&desc, QE_OP_conv2d, &call->attrs.window, &any);
  if (status == dnnl_success) status = dnnl_primitive_desc_create(hint, &desc, NULL, engine, NULL);
  return status;
}

/* What stands against an implementation of a call. */
typedef enum conv_fault {
  GOOD,
  OUTDONE, /* another one, if it is there, is faster */
  SLOW,    /* oneDNN's own reference, hundreds of times slower */
  WRONG
} conv_fault;

static const char *name_of(const_dnnl_primitive_desc_t pd) {
  const char *name;
  return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) == dnnl_success ? name : "";
}

static bool is_named(const_dnnl_primitive_desc_t pd, const char *start) {
  return strncmp(name_of(pd), start, strlen(start)) == 0;
}

/* By the processor's own instructions for bf16, of which "amx" is one kind. */
static bool is_bf16(const_dnnl_primitive_desc_t pd) {
  return strstr(name_of(pd), "bf16") || strstr(name_of(pd), "amx");
}

/* Measured with oneDNN 2.6.3. */
static conv_fault fault_of(const_dnnl_primitive_desc_t pd, const qe_call *call, dnnl_data_type_t factors) {
  enum { FEW_CHANNELS = 48, WHOLE_VECTOR = 16 };
  const qe_window *window = &call->attrs.window;
  int32_t inputs = call->operand[roles_of(call->op).x].desc.dim[QE_C];
  bool strided = window->stride[0] != 1 || window->stride[1] != 1;
  /* It writes past the end of its scratch memory. */
  if (is_named(pd, "jit_1x1") && is_grad_w(call->op) && strided && inputs % WHOLE_VECTOR) return WRONG;
  if (is_named(pd, "ref") || (factors == dnnl_bf16 && !is_bf16(pd))) return SLOW;
  return is_named(pd, "brgconv") && inputs < FEW_CHANNELS ? OUTDONE : GOOD;
}

/* The best of the implementations on the iterator: the first good one; one that is outdone unless the very next is of
 * the same instruction set; a slow one at the end. *pd is NULL when there is none. */
static conv_fault conv_pick(dnnl_primitive_desc_t *pd, dnnl_primitive_desc_iterator_t iterator, const qe_call *call,
                            dnnl_data_type_t factors) {
  conv_fault best = WRONG;
  *pd = NULL;
  do {
    dnnl_primitive_desc_t next = dnnl_primitive_desc_iterator_fetch(iterator);
    if (!next) break;
    conv_fault fault = fault_of(next, call, factors);
    bool better = best == OUTDONE ? is_named(next, "jit:avx512") || is_named(next, "jit_bf16:avx512") : fault < best;
    bool last = best == OUTDONE || fault == GOOD;
    if (better) {
      if (*pd) dnnl_primitive_desc_destroy(*pd);
      *pd = next;
      best = fault;
    } else {
      dnnl_primitive_desc_destroy(next);
    }
    if (last) break;
  } while (dnnl_primitive_desc_iterator_next(iterator) == dnnl_success);
  return best;
}

/* The iterator refers to the description, the hint and the attributes until it is destroyed. */
static conv_fault conv_try(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const qe_call *call, conv_wish wish) {
  conv_layouts layouts;
  dnnl_convolution_desc_t desc;
  dnnl_primitive_desc_t hint = NULL;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_primitive_desc_iterator_t iterator = NULL;
  conv_fault fault = WRONG;
  *pd = NULL;
  bool described = conv_hint(&hint, engine, call, wish.factors) == dnnl_success && make_attr(&attr) == dnnl_success &&
                   wished_layouts(&layouts, call->op, call, wish) == dnnl_success &&
                   conv_desc(&desc, call->op, &call->attrs.window, &layouts) == dnnl_success;
  if (described && dnnl_primitive_desc_iterator_create(&iterator, &desc, attr, engine, hint) == dnnl_success) {
    fault = conv_pick(pd, iterator, call, wish.factors);
    dnnl_primitive_desc_iterator_destroy(iterator);
  }
  if (attr) dnnl_primitive_attr_destroy(attr);
  if (hint) dnnl_primitive_desc_destroy(hint);
  return fault;
}

/* Plain maps if there is a fast kernel for them, else maps in the kernel's layout, else whatever takes plain maps.
 * *pd is NULL when there is no implementation. */
static conv_fault conv_choose_of(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const qe_call *call,
                                 dnnl_data_type_t factors) {
  dnnl_primitive_desc_t other;
  conv_fault fault = conv_try(pd, engine, call, (conv_wish){factors, false});
  if (fault < SLOW) return fault;
  conv_fault other_fault = conv_try(&other, engine, call, (conv_wish){factors, true});
  if (other_fault < fault) {
    if (*pd) dnnl_primitive_desc_destroy(*pd);
    *pd = other;
    return other_fault;
  }
  if (other) dnnl_primitive_desc_destroy(other);
  return fault;
}

/* In bf16 where the device has it and there is a fast kernel for the shape. NULL: there is no implementation. */
static dnnl_primitive_desc_t conv_choose(const cpu_device *device, const qe_call *call) {
  dnnl_primitive_desc_t pd;
  if (device->precision == QE_BF16) {
    if (conv_choose_of(&pd, device->engine, call, dnnl_bf16) < SLOW) return pd;
    if (pd) dnnl_primitive_desc_destroy(pd);
  }
  (void)conv_choose_of(&pd, device->engine, call, dnnl_f32);
  return pd;
}

static const char *conv_refuse(const qe_device *base, const qe_call *call) {
  const cpu_device *device = (const cpu_device *)base;
  int before = cpu_threads_enter(device->threads);
  dnnl_primitive_desc_t pd = conv_choose(device, call);
  cpu_threads_leave(before);
  if (!pd) return "oneDNN has no convolution of this shape";
  dnnl_primitive_desc_destroy(pd);
  return NULL;
}

static qe_status conv_prepare(qe_device *base, const qe_call *call, void **state) {
  cpu_device *device = (cpu_device *)base;
  dnn_operand operand[DNN_TENSORS];
  dnnl_primitive_desc_t pd = NULL;
  conv_layouts plain;
  dnn_state *made = NULL;
  int before = cpu_threads_enter(device->threads);
  dnnl_status_t status = plain_layouts(&plain, call);
  if (status == dnnl_success) pd = conv_choose(device, call);
  if (status == dnnl_success && !pd) status = dnnl_unimplemented;
  qe_status result = status == dnnl_success ? QE_OK : dnn_fail(status, "describing a convolution");
  if (result == QE_OK) {
    fill_operands(call->op, operand);
    operand[0].layout = plain.x;
    operand[1].layout = plain.w;
    operand[2].layout = plain.y;
    result = dnn_state_new(device, call, pd, operand, &made);
  }
  cpu_threads_leave(before);
  *state = made;
  return result;
}

static qe_status onednn_run(qe_queue *queue, const qe_call *call, void *state) {
  (void)call;
  return dnn_state_run((cpu_queue *)queue, state);
}

const qe_impl cpu_impl_conv = {
    .name = "onednn",
    .refuse = conv_refuse,
    .prepare = conv_prepare,
    .run = onednn_run,
    .release = dnn_state_free,
};

/* ---- fully connected ---- */

static dnnl_status_t matrix_layout(dnnl_memory_desc_t *layout, const qe_desc *desc) {
  dnnl_dims_t dims = {desc->dim[QE_N], desc->dim[QE_C]};
  return dnnl_memory_desc_init_by_tag(layout, 2, dims, dnnl_f32, dnnl_ab);
}

static dnnl_status_t linear_desc(dnnl_inner_product_desc_t *desc, qe_op op, const dnn_operand *operand) {
  const dnnl_memory_desc_t *x = &operand[0].layout, *w = &operand[1].layout, *y = &operand[2].layout;
  if (op == QE_OP_linear_grad_x) return dnnl_inner_product_backward_data_desc_init(desc, x, w, y);
  if (op == QE_OP_linear_grad_w) return dnnl_inner_product_backward_weights_desc_init(desc, x, w, NULL, y);
  return dnnl_inner_product_forward_desc_init(desc, dnnl_forward_training, x, w, NULL, y);
}

static dnnl_status_t linear_describe(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const qe_call *call,
                                     dnn_operand *operand) {
  dnnl_inner_product_desc_t forward, desc;
  dnnl_primitive_desc_t hint = NULL;
  dnnl_status_t status = dnnl_success;
  fill_operands(call->op, operand);
  for (int i = 0; status == dnnl_success && i < DNN_TENSORS; i++)
    status = matrix_layout(&operand[i].layout, &call->operand[operand[i].at].desc);
  if (status == dnnl_success) status = linear_desc(&forward, QE_OP_linear, operand);
  if (status == dnnl_success) status = linear_desc(&desc, call->op, operand);
  if (status == dnnl_success && call->op != QE_OP_linear)
    status = dnnl_primitive_desc_create(&hint, &forward, NULL, engine, NULL);
  dnnl_primitive_attr_t attr = NULL;
  if (status == dnnl_success) status = make_attr(&attr);
  if (status == dnnl_success) status = dnnl_primitive_desc_create(pd, &desc, attr, engine, hint);
  if (attr) dnnl_primitive_attr_destroy(attr);
  if (hint) dnnl_primitive_desc_destroy(hint);
  return status;
}

static qe_status linear_prepare(qe_device *base, const qe_call *call, void **state) {
  cpu_device *device = (cpu_device *)base;
  dnn_operand operand[DNN_TENSORS];
  dnnl_primitive_desc_t pd;
  dnn_state *made = NULL;
  int before = cpu_threads_enter(device->threads);
  dnnl_status_t status = linear_describe(&pd, device->engine, call, operand);
  qe_status result = status == dnnl_success ? dnn_state_new(device, call, pd, operand, &made)
                                            : dnn_fail(status, "describing a fully connected layer");
  cpu_threads_leave(before);
  *state = made;
  return result;
}

const qe_impl cpu_impl_linear = {
    .name = "onednn",
    .prepare = linear_prepare,
    .run = onednn_run,
    .release = dnn_state_free,
};
