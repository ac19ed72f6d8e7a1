metadata name = 'Cache events'
metadata description = 'Tells a Service Bus queue of each new segment in the cache account.'

@description('Required. Name of the system topic.')
param name string

@description('Optional. Region, that of the account.')
param location string = resourceGroup().location

@description('Optional. Tags.')
param tags object = {}

@description('Required. The one identity that may send to the queue.')
param managedIdentities { userAssignedResourceIds: string[] }

@description('Required. Resource id of the cache account.')
param storageAccountResourceId string

@description('Required. Container whose new blobs are told of.')
param containerName string

@description('Required. Resource id of the queue.')
param queueResourceId string

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: toObject(managedIdentities.userAssignedResourceIds, id => id, id => {})
  }
  properties: {
    source: storageAccountResourceId
    topicType: 'Microsoft.Storage.StorageAccounts'
  }
}

// A hint that comes late is worth nothing: the next cycle has found the segment by then.
resource subscription 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'segments'
  properties: {
    deliveryWithResourceIdentity: {
      destination: {
        endpointType: 'ServiceBusQueue'
        properties: {
          resourceId: queueResourceId
        }
      }
      identity: {
        type: 'UserAssigned'
        userAssignedIdentity: managedIdentities.userAssignedResourceIds[0]
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: {
      includedEventTypes: ['Microsoft.Storage.BlobCreated']
      subjectBeginsWith: '/blobServices/default/containers/${containerName}/'
    }
    retryPolicy: {
      eventTimeToLiveInMinutes: 60
      maxDeliveryAttempts: 10
    }
  }
}

@description('Resource id of the system topic.')
output resourceId string = topic.id

@description('Name of the system topic.')
output name string = topic.name

@description('Resource group of the system topic.')
output resourceGroupName string = resourceGroup().name

@description('Region of the system topic.')
output location string = topic.location
