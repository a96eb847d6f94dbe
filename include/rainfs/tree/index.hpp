// SPDX-License-Identifier: Apache-2.0
// A hash table of items that live elsewhere and carry their own link (Boost.Intrusive): entering one allocates nothing
// (the table grows by doubling), and one leaves without being looked for. For tables of which every looked-up file has
// some items, so that an allocation for each is felt.
//
// An Item derives from IndexLink and has a type Key, a method `Key key() const` and a static
// `std::size_t hash(const Key&)`. It must stay where it is, and its key as it is, while it is in an index. The hash is
// kept. One thread at a time.
#pragma once

#include <boost/intrusive/unordered_set.hpp>
#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace rainfs::tree {

using IndexLink = boost::intrusive::unordered_set_base_hook<boost::intrusive::store_hash<true>>;

template <typename Item>
class Index {
 public:
  using Key = typename Item::Key;

  Item* find(const Key& key) {
    const auto it = set_.find(key, Hash{}, Equal{});
    return it == set_.end() ? nullptr : &*it;
  }
  // Takes the place of the one that has the same key, if any.
  void put(Item& item) noexcept {
    if (set_.size() >= buckets_.size()) grow();
    const auto [same, entered] = set_.insert(item);
    if (entered) return;
    set_.erase(same);
    set_.insert(item);
  }
  // Does nothing if it is not in the index (any more).
  void remove(Item& item) noexcept {
    if (item.is_linked()) set_.erase(set_.iterator_to(item));
  }
  void clear() noexcept { set_.clear(); }
  auto begin() { return set_.begin(); }
  auto end() { return set_.end(); }

 private:
  struct Hash {
    std::size_t operator()(const Key& key) const { return Item::hash(key); }
    std::size_t operator()(const Item& item) const { return Item::hash(item.key()); }
  };
  struct Equal {
    bool operator()(const Item& one, const Item& other) const { return one.key() == other.key(); }
    bool operator()(const Key& key, const Item& item) const { return key == item.key(); }
    bool operator()(const Item& item, const Key& key) const { return key == item.key(); }
  };
  using Set = boost::intrusive::unordered_set<Item, boost::intrusive::hash<Hash>, boost::intrusive::equal<Equal>,
                                              boost::intrusive::power_2_buckets<true>>;
  using Buckets = std::vector<typename Set::bucket_type>;
  static constexpr std::size_t first_buckets = 64;

  void grow() noexcept {
    try {
      Buckets more(2 * buckets_.size());
      set_.rehash(typename Set::bucket_traits(more.data(), more.size()));
      buckets_ = std::move(more);      // the buckets stay where they are
    } catch (const std::bad_alloc&) {  // full buckets are slower, that is all
    }
  }

  Buckets buckets_ = Buckets(first_buckets);
  Set set_{typename Set::bucket_traits(buckets_.data(), buckets_.size())};
};

}  // namespace rainfs::tree
