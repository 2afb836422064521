// Makes MLX on a CPU build the graph that it builds on a GPU, and prints it with shapes.
//
// Loaded before MLX, so that the functions below stand for those of the same names in libmlx. The four of mx.fast are one
// primitive each on a GPU, and many on a CPU; here they are one, which cannot be evaluated. mx.export_to_dot prints one
// JSON object a line instead of a picture.

#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "mlx/graph_utils.h"
#include "mlx/mlx.h"
#include "mlx/primitives.h"

namespace mlx::core {

namespace {

using Arrays = std::vector<array>;

class Fused : public UnaryPrimitive {
 public:
  Fused(Stream stream, const char* name)
      : UnaryPrimitive(stream), name_(name) {}

  void eval_cpu(const Arrays&, array&) override {
    throw std::runtime_error("a graph that is counted is not evaluated");
  }
  void eval_gpu(const Arrays& inputs, array& out) override {
    eval_cpu(inputs, out);
  }
  const char* name() const override {
    return name_;
  }

 private:
  const char* name_;
};

array fused(const char* name, Shape shape, Dtype dtype, Arrays inputs, StreamOrDevice s) {
  auto primitive = std::make_shared<Fused>(to_stream(s), name);
  return array(std::move(shape), dtype, primitive, std::move(inputs));
}

const char* name_of(Dtype dtype) {
  switch (dtype.val()) {
    case Dtype::Val::bool_:
      return "bool";
    case Dtype::Val::bfloat16:
      return "bfloat16";
    case Dtype::Val::float16:
      return "float16";
    case Dtype::Val::float32:
      return "float32";
    case Dtype::Val::int32:
      return "int32";
    case Dtype::Val::uint32:
      return "uint32";
    default:
      return "other";
  }
}

template <typename Numbers>
void print_numbers(std::ostream& os, const Numbers& numbers) {
  os << '[';
  const char* separator = "";
  for (auto number : numbers) {
    os << separator << number;
    separator = ",";
  }
  os << ']';
}

void print_array(std::ostream& os, const array& a) {
  os << "{\"id\":" << a.id() << ",\"shape\":";
  print_numbers(os, a.shape());
  os << ",\"dtype\":\"" << name_of(a.dtype()) << "\",\"itemsize\":" << a.itemsize();
  if (a.is_available()) {
    os << ",\"strides\":";
    print_numbers(os, a.strides());
  }
  os << '}';
}

// What a view does to the layout of its input. The classes are known by their names, since libmlx hides their types.
void print_state(std::ostream& os, const Primitive& primitive) {
  std::string_view name = primitive.name();
  if (name == "Transpose") {
    os << ",\"axes\":";
    print_numbers(os, static_cast<const Transpose&>(primitive).state());
  } else if (name == "ExpandDims") {
    os << ",\"axes\":";
    print_numbers(os, static_cast<const ExpandDims&>(primitive).state());
  } else if (name == "Squeeze") {
    os << ",\"axes\":";
    print_numbers(os, static_cast<const Squeeze&>(primitive).state());
  } else if (name == "Slice") {
    os << ",\"steps\":";
    print_numbers(os, std::get<2>(static_cast<const Slice&>(primitive).state()));
  } else if (name == "AsStrided") {
    os << ",\"strides\":";
    print_numbers(os, std::get<1>(static_cast<const AsStrided&>(primitive).state()));
  }
}

void print_node(std::ostream& os, const array& a) {
  os << "{\"name\":\"" << (a.has_primitive() ? a.primitive().name() : "") << "\",\"inputs\":[";
  const char* separator = "";
  for (const auto& input : a.inputs()) {
    os << separator << input.id();
    separator = ",";
  }
  os << "],\"outputs\":[";
  separator = "";
  for (const auto& output : a.outputs()) {
    os << separator;
    print_array(os, output);
    separator = ",";
  }
  os << ']';
  if (a.has_primitive()) {
    print_state(os, a.primitive());
  }
  os << "}\n";
}

// Inputs first. A stack of its own: a graph may be deeper than the one of the processor.
void print_all(std::ostream& os, const Arrays& outputs) {
  std::unordered_set<std::uintptr_t> seen;
  std::vector<std::pair<array, size_t>> open;
  auto begin = [&](const array& a) {
    if (!seen.insert(a.id()).second) {
      return;
    }
    for (const auto& sibling : a.siblings()) {
      seen.insert(sibling.id());
    }
    open.emplace_back(a, 0);
  };
  for (const auto& output : outputs) {
    begin(output);
    while (!open.empty()) {
      array current = open.back().first;
      size_t next = open.back().second++;
      if (next < current.inputs().size()) {
        begin(current.inputs()[next]);
      } else {
        print_node(os, current);
        open.pop_back();
      }
    }
  }
}

} // namespace

void export_to_dot(std::ostream& os, NodeNamer, const Arrays& outputs) {
  print_all(os, outputs);
}

namespace fast {

array rms_norm(const array& x, const std::optional<array>& weight, float, StreamOrDevice s) {
  auto dtype = weight ? result_type(x, *weight) : x.dtype();
  auto scale = weight ? astype(*weight, dtype, s) : array(1, dtype);
  return fused("RMSNorm", x.shape(), dtype, {astype(x, dtype, s), scale}, s);
}

array layer_norm(
    const array& x,
    const std::optional<array>& weight,
    const std::optional<array>& bias,
    float,
    StreamOrDevice s) {
  auto dtype = weight ? (bias ? result_type(x, *weight, *bias) : result_type(x, *weight)) : x.dtype();
  auto scale = weight ? astype(*weight, dtype, s) : array(1, dtype);
  auto shift = bias ? astype(*bias, dtype, s) : array(0, dtype);
  return fused("LayerNorm", x.shape(), dtype, {astype(x, dtype, s), scale, shift}, s);
}

array rope(
    const array& x,
    int,
    bool,
    std::optional<float>,
    float,
    const array& offset,
    const std::optional<array>& freqs,
    StreamOrDevice s) {
  Arrays inputs = {x, offset.itemsize() == 4 ? offset : astype(offset, int32, s)};
  if (freqs) {
    inputs.push_back(astype(*freqs, float32, s));
  }
  return fused("RoPE", x.shape(), x.dtype(), std::move(inputs), s);
}

array rope(
    const array& x,
    int dims,
    bool traditional,
    std::optional<float> base,
    float scale,
    int offset,
    const std::optional<array>& freqs,
    StreamOrDevice s) {
  return rope(x, dims, traditional, base, scale, array(offset, int32), freqs, s);
}

array scaled_dot_product_attention(
    const array& queries,
    const array& keys,
    const array& values,
    const float,
    const std::string&,
    std::optional<array> mask,
    const std::optional<array>& sinks,
    bool,
    StreamOrDevice s) {
  auto dtype = result_type(queries, keys, values);
  Arrays inputs = {astype(queries, dtype, s), astype(keys, dtype, s), astype(values, dtype, s)};
  if (mask) {
    auto shape = queries.shape();
    shape.back() = keys.shape(-2);
    auto added = mask->dtype() == bool_ ? *mask : astype(*mask, dtype, s);
    inputs.push_back(broadcast_to(added, shape, s));
  }
  if (sinks) {
    inputs.push_back(astype(*sinks, dtype, s));
  }
  auto shape = queries.shape();
  shape.back() = values.shape(-1);
  return fused("ScaledDotProductAttention", shape, dtype, std::move(inputs), s);
}

} // namespace fast
} // namespace mlx::core
