metadata name = 'Private endpoints'
metadata description = 'Private endpoints in one subnet, and the private DNS zones that make their names known in the network.'

@description('Optional. Region of the network.')
param location string = resourceGroup().location

@description('Optional. Tags.')
param tags object = {}

@description('Required. Resource id of the network that resolves the names.')
param virtualNetworkResourceId string

@description('Required. Resource id of the subnet of the endpoints.')
param subnetResourceId string

@description('Required. What gets an endpoint: name of the endpoint, resource, sub-resource and zone.')
param endpoints { name: string, resourceId: string, groupId: string, zoneName: string }[]

var zoneNames = union(map(endpoints, endpoint => endpoint.zoneName), [])

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for zoneName in zoneNames: {
    name: zoneName
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (zoneName, index) in zoneNames: {
    parent: zones[index]
    name: last(split(virtualNetworkResourceId, '/'))
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: virtualNetworkResourceId
      }
    }
  }
]

resource privateEndpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [
  for endpoint in endpoints: {
    name: endpoint.name
    location: location
    tags: tags
    properties: {
      privateLinkServiceConnections: [
        {
          name: endpoint.name
          properties: {
            groupIds: [endpoint.groupId]
            privateLinkServiceId: endpoint.resourceId
          }
        }
      ]
      subnet: {
        id: subnetResourceId
      }
    }
  }
]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [
  for (endpoint, index) in endpoints: {
    parent: privateEndpoints[index]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: endpoint.groupId
          properties: {
            privateDnsZoneId: zones[indexOf(zoneNames, endpoint.zoneName)].id
          }
        }
      ]
    }
  }
]
